#!/bin/bash
# One machine with several accelerators: train SPEC in RUN on all of them; begins the run, or goes on with it.
# usage: scripts/launch/one_node.sh SPEC RUN [options of `hvdsl train`]
set -euo pipefail
SPEC=$1 RUN=$2
shift 2
exec torchrun --standalone --nproc-per-node "${PROCESSES:-gpu}" --max-restarts "${RESTARTS:-3}" \
  -m hvdsl train "$SPEC" --out "$RUN" --resume auto "$@"
