# The environment that quickstart.sh and run_tests.sh work in; not a program of
# its own. Sourced with PROGRAM and ROOT set. Gives: parse_options, setup_env,
# run_in_env.
#
# The order matters: setuptools (with pkg_resources) and torch have to be there
# before mmcv can be compiled, and mmengine, mmdet, lvis and mmdeploy come without
# their own lists of requirements (see requirements/).

MMCV_VERSION=2.1.0
NEEDED_GB=3
ENV_DIR=$ROOT/.venv
CACHE_DIR=${XDG_CACHE_HOME:-${HOME:-$ROOT}/.cache}/mmdet_centernet2
USE_ACTIVE=
SETUP_ONLY=
ARGUMENTS=()

# shellcheck source=messages.sh
source "$ROOT/tools/env/messages.sh"
# shellcheck source=python.sh
source "$ROOT/tools/env/python.sh"
# shellcheck source=mmcv.sh
source "$ROOT/tools/env/mmcv.sh"

# Print the comment block at the top of a script.
show_help() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$1"; }

# parse_options SCRIPT ARGUMENT...: set USE_ACTIVE, SETUP_ONLY and ARGUMENTS.
parse_options() {
    local script=$1
    shift
    while (($#)); do
        case $1 in
        -h | --help) show_help "$script" && exit 0 ;;
        --active) USE_ACTIVE=1 ;;
        --setup-only) SETUP_ONLY=1 ;;
        --)
            shift
            ARGUMENTS+=("$@")
            return
            ;;
        *) ARGUMENTS+=("$1") ;;
        esac
        shift
    done
}

check_clone() {
    local file
    for file in setup.py setup.cfg requirements/constraints.txt \
        mmdet_centernet2/__init__.py; do
        [[ -e $ROOT/$file ]] || die "$ROOT lacks $file: it is not a whole" \
            "clone, run git clone again and start from there"
    done
}

# check_space FOLDER GIGABYTES: is there room on the file system of FOLDER?
check_space() {
    local folder=$1 free
    while [[ ! -d $folder ]]; do folder=$(dirname "$folder"); done
    free=$(df -Pk "$folder" | awk 'NR == 2 {print int($4 / 1000000)}')
    if ((free < $2)); then
        die "$folder has $free GB free, about $2 GB are needed (10 GB for a" \
            "torch with CUDA): free some space and run this again"
    fi
}

# state check|write PROFILE: compare the environment with what was set up last.
state() {
    NVCC=$(wanted_nvcc) "$ENV_PYTHON" "$ROOT/tools/env/env_state.py" "$1" \
        "$STATE_DIR/state-$2.json" "$2"
}

# One setup at a time in an environment.
lock_setup() {
    command -v flock >/dev/null || return 0
    exec 9>"$STATE_DIR/setup.lock"
    flock -n 9 && return
    say "another setup is running in $ENV_DIR; waiting for it"
    flock 9
}

unlock_setup() { if command -v flock >/dev/null; then exec 9>&-; fi; }

# The pins, less those that a torch which is there already rules out.
write_constraints() {
    CONSTRAINTS=$STATE_DIR/constraints.txt
    cp "$ROOT/requirements/constraints.txt" "$CONSTRAINTS"
    local torch major minor
    torch=$(installed_version torch)
    [[ -n $torch ]] || return 0
    IFS=. read -r major minor _ <<<"$torch"
    if ((major < 2 || (major == 2 && minor < 1))); then return; fi
    sed -i '/^torch==/d' "$CONSTRAINTS"
    if ((major == 2 && minor < 3)); then  # built for numpy 1
        sed -i -e 's/^numpy==.*/numpy==1.26.4/' \
            -e 's/^\(opencv-python-headless\)==.*/\1==4.11.0.86/' "$CONSTRAINTS"
    fi
}

installed_version() {
    "$ENV_PYTHON" -c 'import importlib.metadata as m, sys
try: print(m.version(sys.argv[1]))
except m.PackageNotFoundError: pass' "$1"
}

# pip_install LABEL ARGUMENT...: one step that installs pinned packages.
pip_install() {
    local label=$1
    shift
    step "$label" "$STATE_DIR/logs/${label%%[ ,]*}.log" \
        "${PIP[@]}" install -c "$CONSTRAINTS" "$@"
}

# The library list; an OpenCV that is there already is kept.
library_list() {
    local list=$STATE_DIR/libraries.txt
    cp "$ROOT/requirements/runtime.txt" "$list"
    if [[ -n $(installed_version opencv-python) ]] &&
        "$ENV_PYTHON" -c 'import cv2' 2>/dev/null; then
        sed -i '/^opencv-python-headless/d' "$list"
    fi
    echo "$list"
}

install_everything() {
    local requirements=$ROOT/requirements libraries openmmlab
    libraries=(-r "$(library_list)")
    openmmlab=(-r "$requirements/openmmlab.txt")
    if [[ $1 == tests ]]; then
        libraries+=(-r "$requirements/deploy.txt" -r "$requirements/eval.txt"
            -r "$requirements/openvino.txt" -r "$requirements/tests.txt")
        openmmlab+=(-r "$requirements/mmdeploy.txt" -r "$requirements/sahi.txt")
    fi
    write_constraints
    pip_install "build tools" -r "$requirements/build.txt"
    pip_install "torch (PyTorch; the largest download)" torch
    pip_install "libraries" "${libraries[@]}"
    pip_install "mmengine, mmdet, lvis" --no-deps "${openmmlab[@]}"
    install_mmcv
    pip_install "mmdet_centernet2 from this clone" \
        --no-deps --no-build-isolation -e "$ROOT"
    step "check that it imports" "$STATE_DIR/logs/import.log" \
        "$ENV_PYTHON" -c 'import mmdet_centernet2'
    state write runtime
    if [[ $1 != runtime ]]; then state write "$1"; fi
}

# with_own_tmp COMMAND...: large scratch files go into the environment's folder.
with_own_tmp() {
    local before=${TMPDIR-}
    mkdir -p "$STATE_DIR/tmp"
    export TMPDIR=$STATE_DIR/tmp
    "$@"
    rm -rf "$TMPDIR"
    if [[ -n $before ]]; then TMPDIR=$before; else unset TMPDIR; fi
}

# Folders that this user can write to, with room in them.
prepare_folders() {
    if [[ -z $ENV_PYTHON ]]; then
        check_space "$ROOT" "$NEEDED_GB"
        check_space "$CACHE_DIR" 1
    fi
    mkdir -p "$STATE_DIR/logs" "$STATE_DIR/tmp" 2>/dev/null || die "cannot" \
        "write to $ENV_DIR: make it yours (chown) or clone into your own folder"
    mkdir -p "$CACHE_DIR" 2>/dev/null || die "cannot write to the cache folder" \
        "$CACHE_DIR: make it yours (chown) or set XDG_CACHE_HOME"
}

make_environment() {
    require_compiler "$BASE_PYTHON"
    say "Setting up $ENV_DIR with $BASE_PYTHON (logs: $STATE_DIR/logs)"
    make_venv
    share_host_torch
}

# Set up what is not there yet: the long way.
setup_from_scratch() {
    local profile=$1
    STEPS=7
    if [[ -z $ENV_PYTHON ]]; then find_python; fi
    prepare_folders
    lock_setup
    # Another script may have made it while this one waited.
    if [[ -z $ENV_PYTHON ]] && ! use_existing_venv; then
        STEPS=8
        make_environment
    elif state check "$profile" >/dev/null; then
        return
    else
        say "Updating $ENV_DIR (logs: $STATE_DIR/logs)"
    fi
    unset PIP_USER PIP_TARGET PIP_PREFIX  # would lead pip out of the environment
    PIP=("$ENV_PYTHON" -m pip --disable-pip-version-check --no-input)
    # A venv whose making was interrupted may lack pip.
    "${PIP[@]}" --version >/dev/null 2>&1 ||
        "$ENV_PYTHON" -m ensurepip >/dev/null 2>&1 || die "$ENV_DIR has no pip:" \
        "remove it (rm -rf $ENV_DIR) and run this again"
    with_own_tmp install_everything "$profile"
}

# setup_env PROFILE: make or reuse the environment; PROFILE is runtime or tests.
setup_env() {
    local started=$SECONDS
    ENV_PYTHON=
    set_traps
    check_clone
    keep_matplotlib_in_cache
    if [[ -n $USE_ACTIVE ]]; then
        use_active_environment
    else
        use_existing_venv || true
    fi
    STATE_DIR=$ENV_DIR/mmdet_centernet2
    if [[ -n $ENV_PYTHON ]] && state check "$1" >/dev/null; then
        say "Environment $ENV_DIR is up to date."
    else
        setup_from_scratch "$1"
        unlock_setup
        say "Environment $ENV_DIR is ready after $(minutes $((SECONDS - started)))."
    fi
    hide_useless_gpu
}

hide_useless_gpu() {
    [[ -e $STATE_DIR/cpu_only ]] && gpu_in_sight || return 0
    say "The GPU is not used: mmcv was built $(<"$STATE_DIR/cpu_only")."
    export CUDA_VISIBLE_DEVICES=
}

# matplotlib would make a folder of its own outside the cache.
keep_matplotlib_in_cache() {
    if [[ ! -d ${HOME:-}/.config/matplotlib ]]; then
        export MPLCONFIGDIR=${MPLCONFIGDIR:-$CACHE_DIR/matplotlib}
    fi
}

# run_in_env COMMAND...: hand over to a program of the environment.
run_in_env() {
    if [[ -n $SETUP_ONLY ]]; then exit 0; fi
    export PATH="$(dirname "$ENV_PYTHON"):$PATH"
    cd "$ROOT"
    exec "$@"
}
