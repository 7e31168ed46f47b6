#!/bin/bash
# A machine that may be taken away: goes on until the run is done, whatever ends a try. 143 is a machine that is going.
# usage: scripts/launch/preemptible.sh SPEC RUN [options of `hvdsl train`]
set -uo pipefail
SPEC=$1 RUN=$2
shift 2
for TRY in $(seq 1 "${TRIES:-1000}"); do
  torchrun --standalone --nproc-per-node "${PROCESSES:-gpu}" -m hvdsl train "$SPEC" --out "$RUN" --resume auto "$@" &
  TRAINING=$!
  trap 'kill -TERM "$TRAINING"; wait "$TRAINING"; exit 143' TERM
  wait "$TRAINING"
  CODE=$?
  case $CODE in
    0) exit 0 ;;
    2 | 70) exit "$CODE" ;; # another try would end the same
  esac
  echo "try $TRY ended with $CODE" >&2
  sleep "${PAUSE:-10}"
done
exit 1
