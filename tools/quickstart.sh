#!/usr/bin/env bash
# Set everything up, then train and evaluate a CenterNet2 on real photographs.
#
# Usage: bash tools/quickstart.sh [--active] [--setup-only] [ARGUMENT...]
#
#   --active      work in the environment that is active now, not in .venv
#   --setup-only  stop after the setup
#   ARGUMENT...   go to tools/quickstart.py (its help: bash tools/quickstart.sh -- --help)
#
# Needs Python 3.10 to 3.13 with pip, gcc and g++. The first run makes .venv in
# this clone and compiles mmcv (about 3 minutes on 2 cores); later runs start at
# once. Nothing is written outside this clone and your cache folder.
#
# Environment: PYTHON (interpreter), MAX_JOBS (compiler processes),
# XDG_CACHE_HOME (cache folder), CUDA_HOME, FORCE_CUDA and TORCH_CUDA_ARCH_LIST
# (CUDA operators), PIP_* (pip's settings). More in docs/install.md.
set -Eeuo pipefail

PROGRAM=quickstart.sh
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ ! -r $ROOT/tools/env/setup_env.sh ]]; then
    echo "$PROGRAM: error: $ROOT lacks tools/env: it is not a whole clone, run git clone again and start from there" >&2
    exit 1
fi
source "$ROOT/tools/env/setup_env.sh"

parse_options "${BASH_SOURCE[0]}" "$@"
setup_env runtime
run_in_env "$ENV_PYTHON" tools/quickstart.py "${ARGUMENTS[@]}"
