#!/usr/bin/env bash
# Set everything up, then run the whole test suite.
#
# Usage: bash tools/run_tests.sh [--active] [--setup-only] [ARGUMENT...]
#
#   --active      work in the environment that is active now, not in .venv
#   --setup-only  stop after the setup
#   ARGUMENT...   go to pytest, e.g. -k cascade or tests/test_models; -n 0 runs
#                 one test at a time, else there is a process for each core
#
# Needs Python 3.10 to 3.13 with pip, gcc and g++. The first run makes .venv in
# this clone and compiles mmcv (about 3 minutes on 2 cores); later runs start at
# once. Nothing is written outside this clone and your cache folder.
#
# Environment: PYTHON (interpreter), MAX_JOBS (compiler processes),
# XDG_CACHE_HOME (cache folder), CUDA_HOME, FORCE_CUDA and TORCH_CUDA_ARCH_LIST
# (CUDA operators), PIP_* (pip's settings). More in docs/install.md.
set -Eeuo pipefail

PROGRAM=run_tests.sh
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ ! -r $ROOT/tools/env/setup_env.sh ]]; then
    echo "$PROGRAM: error: $ROOT lacks tools/env: it is not a whole clone, run git clone again and start from there" >&2
    exit 1
fi
source "$ROOT/tools/env/setup_env.sh"

parse_options "${BASH_SOURCE[0]}" "$@"
setup_env tests
[[ -n $SETUP_ONLY ]] || "$ENV_PYTHON" "$ROOT/tools/env/show_versions.py"
# Scratch folders of the tests stay in the environment, too.
export PYTEST_DEBUG_TEMPROOT=$STATE_DIR/pytest
mkdir -p "$PYTEST_DEBUG_TEMPROOT"
PARALLEL=(-n "$(parallel_jobs)" --dist worksteal)
if [[ ${ARGUMENTS[*]-} == *no:xdist* ]]; then PARALLEL=(); fi
# The processes share the cores; threads of their own would get in the way.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
run_in_env "$ENV_PYTHON" -m pytest -q --durations=10 "${PARALLEL[@]}" \
    "${ARGUMENTS[@]}"
