#!/bin/bash
# Several machines that share a file system: start this on each of them, with the same NODES and HEAD.
# usage: NODES=4 HEAD=first-machine:29500 scripts/launch/several_nodes.sh SPEC RUN [options of `hvdsl train`]
set -euo pipefail
SPEC=$1 RUN=$2
shift 2
exec torchrun --nnodes "${NODES:?how many machines}" --nproc-per-node "${PROCESSES:-gpu}" \
  --rdzv-backend c10d --rdzv-endpoint "${HEAD:?address of one of them, as host:29500}" --rdzv-id "${RUN##*/}" \
  --max-restarts "${RESTARTS:-3}" -m hvdsl train "$SPEC" --out "$RUN" --resume auto "$@"
