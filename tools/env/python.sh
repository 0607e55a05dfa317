# Finding Python and making the virtual environment; not a program of its own.
# Needs: messages.sh, ROOT, ENV_DIR, STATE_DIR.

PYTHON_RANGE='3.10 to 3.13'

# python_version PYTHON: e.g. 3.11; nothing if it does not run.
python_version() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

version_fits() {
    case $1 in 3.1[0-3]) return 0 ;; *) return 1 ;; esac
}

# Set BASE_PYTHON to $PYTHON, or else to the first Python that fits.
find_python() {
    local candidate version seen=
    if [[ -n ${PYTHON:-} ]]; then
        version=$(python_version "$PYTHON")
        [[ -n $version ]] || die "PYTHON=$PYTHON does not run:" \
            "give the path of a Python $PYTHON_RANGE"
        version_fits "$version" || die "PYTHON=$PYTHON is Python $version:" \
            "give the path of a Python $PYTHON_RANGE"
        BASE_PYTHON=$(command -v "$PYTHON")
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        command -v "$candidate" >/dev/null || continue
        version=$(python_version "$candidate")
        if version_fits "$version"; then
            BASE_PYTHON=$(command -v "$candidate")
            return
        fi
        seen+=" $candidate is ${version:-broken},"
    done
    die "Python $PYTHON_RANGE is needed, but${seen:- there is none,}" \
        "install one (Debian 12: apt install python3 python3-pip) or name it:" \
        "PYTHON=/path/to/python3.12 bash tools/$PROGRAM"
}

# Set ENV_DIR and ENV_PYTHON for the environment that is active now.
use_active_environment() {
    local python=${PYTHON:-}
    if [[ -z $python ]]; then
        [[ -n ${VIRTUAL_ENV:-}${CONDA_PREFIX:-} ]] || die "--active: no" \
            "environment is active: activate one, or leave the option out"
        python=${VIRTUAL_ENV:-$CONDA_PREFIX}/bin/python
    fi
    local version
    version=$(python_version "$python")
    version_fits "${version:-none}" || die "--active: $python is Python" \
        "${version:-broken}: activate an environment with Python $PYTHON_RANGE"
    ENV_PYTHON=$(command -v "$python")
    ENV_DIR=$("$ENV_PYTHON" -c 'import sys; print(sys.prefix)')
}

# The .venv of this clone, if there is one that works.
use_existing_venv() {
    [[ -x $ENV_DIR/bin/python ]] || return 1
    local version wanted
    version=$(python_version "$ENV_DIR/bin/python")
    version_fits "${version:-none}" || die "$ENV_DIR is broken or of Python" \
        "${version:-unknown}: remove it (rm -rf $ENV_DIR) and run this again"
    if [[ -n ${PYTHON:-} ]]; then
        wanted=$(python_version "$PYTHON")
        [[ $wanted == "$version" ]] || die "$ENV_DIR has Python $version, but" \
            "PYTHON=$PYTHON is ${wanted:-broken}: remove $ENV_DIR or leave" \
            "PYTHON out"
    fi
    ENV_PYTHON=$ENV_DIR/bin/python
}

# Make .venv with venv or, where Debian left out ensurepip, with virtualenv.
make_venv() {
    local log=$STATE_DIR/logs/venv.log
    if "$BASE_PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        step "virtual environment $ENV_DIR" "$log" \
            "$BASE_PYTHON" -m venv "$ENV_DIR"
    else
        make_venv_with_virtualenv "$log"
    fi
    ENV_PYTHON=$ENV_DIR/bin/python
}

make_venv_with_virtualenv() {
    local tool=$STATE_DIR/virtualenv
    "$BASE_PYTHON" -m pip --version >/dev/null 2>&1 || die "$BASE_PYTHON has" \
        "neither venv nor pip: apt install python3-venv"
    step "virtualenv, as this Python lacks ensurepip" "$1" \
        "$BASE_PYTHON" -m pip install --disable-pip-version-check \
        --target "$tool" virtualenv
    run_logged "$1" env PYTHONPATH="$tool" "$BASE_PYTHON" -m virtualenv \
        --no-periodic-update "$ENV_DIR" ||
        explain_failure "virtual environment" "$1"
    rm -rf "$tool"
}

# Print the version of a CUDA build of torch >= 2.1 that BASE_PYTHON has, then
# the folders it is imported from; nothing if there is none.
find_host_torch() {
    "$BASE_PYTHON" - 2>/dev/null <<'PY' || true
import importlib.util
import os
import sys

if importlib.util.find_spec('torch') is None:
    sys.exit()
import torch

version = tuple(int(part) for part in torch.__version__.split('.')[:2])
if version >= (2, 1) and (torch.version.cuda or torch.version.hip):
    print(torch.__version__)
    for folder in sys.path:
        if os.path.basename(folder) in ('site-packages', 'dist-packages'):
            print(os.path.abspath(folder))
PY
}

# Let .venv see the packages of BASE_PYTHON, after its own, if they hold a CUDA
# build of torch. Works for a host that is a virtual environment itself, too,
# which --system-site-packages would look through.
share_host_torch() {
    local found site
    found=$(find_host_torch)
    [[ -n $found ]] || return 0
    site=$("$ENV_PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    tail -n +2 <<<"$found" >"$site/host_torch.pth"
    say "      using torch $(head -n 1 <<<"$found") of $BASE_PYTHON"
}
