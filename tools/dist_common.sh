# shellcheck shell=bash
# Shared by dist_train.sh and dist_test.sh; not a program of its own.

# A port nobody uses, so that two jobs on one machine do not meet.
free_port() {
    "${PYTHON}" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
}

# launch TOOL POSITIONALS ARGUMENTS...: the first POSITIONALS arguments go to
# the tool, the next is the number of processes, the rest goes to the tool.
launch() {
    local tool=$1 positionals=$2
    shift 2
    local processes=${*:positionals+1:1}
    if ! [[ $processes =~ ^[1-9][0-9]*$ ]]; then
        sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
        exit 2
    fi
    PYTHON=${PYTHON:-python}
    local nnodes=${NNODES:-1} port=${PORT:-}
    if [[ -z $port ]]; then
        # Machines that work together must agree on a port beforehand.
        if [[ $nnodes == 1 ]]; then port=$(free_port); else port=29500; fi
    fi
    # A clone need not be installed, unless a config inherits mmdet_centernet2::...
    local tools
    tools=$(dirname "$0")
    export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
    exec "${PYTHON}" -m torch.distributed.run \
        --nnodes="$nnodes" \
        --node_rank="${NODE_RANK:-0}" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" \
        --master_port="$port" \
        --nproc_per_node="$processes" \
        "$tools/$tool" \
        "${@:1:positionals}" --launcher pytorch "${@:positionals+2}"
}
