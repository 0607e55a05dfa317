#!/usr/bin/env bash
# Train under Slurm, one task per GPU.
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS are read from the environment.
set -euo pipefail
if (($# < 4)); then
    sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
. "$(dirname "$0")/slurm_common.sh"
slurm_run "$1" "$2" train.py "$3" --work-dir="$4" "${@:5}"
