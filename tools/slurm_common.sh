# shellcheck shell=bash
# Shared by slurm_train.sh and slurm_test.sh; not a program of its own.

# slurm_run PARTITION JOB_NAME TOOL ARGUMENTS...
slurm_run() {
    local partition=$1 job_name=$2 tool=$3
    shift 3
    local gpus_per_node=${GPUS_PER_NODE:-8}
    local tools
    tools=$(dirname "${BASH_SOURCE[0]}")
    # A clone need not be installed, unless a config inherits mmdet_centernet2::...
    export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
    # SRUN_ARGS holds several arguments, so it is left unquoted.
    # shellcheck disable=SC2086
    exec srun -p "$partition" \
        --job-name="$job_name" \
        --gres=gpu:"$gpus_per_node" \
        --ntasks="${GPUS:-8}" \
        --ntasks-per-node="$gpus_per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit=1 \
        ${SRUN_ARGS:-} \
        "${PYTHON:-python}" -u "$tools/$tool" \
        "$@" --launcher=slurm
}
