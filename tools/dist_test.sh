#!/usr/bin/env bash
# Test with one process per GPU, or per CPU process where there is no GPU.
#   tools/dist_test.sh CONFIG CHECKPOINT NUMBER [arguments of tools/test.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
. "$(dirname "$0")/dist_common.sh"
launch test.py 2 "$@"
