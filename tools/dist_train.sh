#!/usr/bin/env bash
# Train with one process per GPU, or per CPU process where there is no GPU.
#   tools/dist_train.sh CONFIG NUMBER [arguments of tools/train.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
. "$(dirname "$0")/dist_common.sh"
launch train.py 1 "$@"
