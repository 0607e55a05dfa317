# Getting an mmcv whose compiled operators fit this torch; not a program of its
# own. Needs: messages.sh, ENV_PYTHON, STATE_DIR, CACHE_DIR, CONSTRAINTS, PIP.

# pip's own cache does not tell torch versions apart, so the wheel built here is
# kept in a cache of ours, one folder for each kind.
declare -A MMCV_TIME=(
    [cpu]='about 3 minutes on 2 cores, once'
    [cuda]='longer than the 3 minutes for the CPU, once')

# Set TORCH (version), TORCH_CUDA (version or empty), GPU (1 if torch sees one),
# PYTAG (cp311-linux_x86_64).
read_torch_facts() {
    local facts
    facts=$("$ENV_PYTHON" - <<'PY'
import sys
import sysconfig

import torch

platform = sysconfig.get_platform().replace('-', '_').replace('.', '_')
print(torch.__version__, torch.version.cuda or '-',
      int(torch.cuda.is_available()),
      'cp%d%d-%s' % (*sys.version_info[:2], platform))
PY
    ) || die "torch is installed but cannot be imported: remove $ENV_DIR and" \
        "run this again"
    read -r TORCH TORCH_CUDA GPU PYTAG <<<"$facts"
    TORCH_CUDA=${TORCH_CUDA#-}
}

find_nvcc() {
    local candidate
    for candidate in "${CUDA_HOME:-/nonexistent}/bin/nvcc" \
        "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc; do
        if [[ -x $candidate ]]; then
            echo "$candidate"
            return
        fi
    done
}

# Set OPS to cpu or cuda, NVCC, and WHY, one line for the user.
choose_ops() {
    OPS=cpu NVCC='' WHY=''
    if [[ -z $TORCH_CUDA ]]; then
        WHY="for the CPU (torch $TORCH has no CUDA)"
        return
    fi
    NVCC=$(find_nvcc)
    local toolkit=
    if [[ -n $NVCC ]]; then
        toolkit=$("$NVCC" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')
    fi
    if [[ ${toolkit%%.*} != "${TORCH_CUDA%%.*}" ]]; then
        WHY="for the CPU, as nvcc of CUDA $TORCH_CUDA is not there"
        WHY+=" (found ${toolkit:-none})"
    elif [[ $GPU == 1 || -n ${TORCH_CUDA_ARCH_LIST:-} ]]; then
        OPS=cuda
        WHY="with CUDA $toolkit for ${TORCH_CUDA_ARCH_LIST:-the GPU in this machine}"
    elif [[ ${FORCE_CUDA:-0} == 1 ]]; then
        die "FORCE_CUDA=1, but torch sees no GPU here to compile for: name the" \
            "architecture of yours, e.g. TORCH_CUDA_ARCH_LIST=8.0"
    else
        WHY="for the CPU, as torch saw no GPU"
    fi
}

gpu_in_sight() {
    [[ ${CUDA_VISIBLE_DEVICES-0} =~ ^[^-] ]] && nvidia-smi -L >/dev/null 2>&1
}

# nvcc, where CUDA operators are missing and wanted: there is a GPU, or the user
# says so.
wanted_nvcc() {
    [[ -e $STATE_DIR/cpu_only ]] || return 0
    if [[ -n ${TORCH_CUDA_ARCH_LIST:-} || ${FORCE_CUDA:-0} == 1 ]] ||
        gpu_in_sight; then
        find_nvcc
    fi
}

# The name of the folder that keeps the wheel of exactly this kind.
mmcv_key() {
    local kind=$OPS
    if [[ $OPS == cuda ]]; then
        kind=cuda$TORCH_CUDA-${TORCH_CUDA_ARCH_LIST:-$(gpu_arch)}
    fi
    echo "mmcv$MMCV_VERSION-torch$TORCH-$kind-$PYTAG" | tr -c 'A-Za-z0-9._+\n-' _
}

gpu_arch() {
    "$ENV_PYTHON" -c 'import torch
print(*sorted({"%d.%d" % torch.cuda.get_device_capability(i)
               for i in range(torch.cuda.device_count())}))'
}

# Does the installed mmcv work: importable operators, of the kind that is wanted?
mmcv_works() {
    OPS=$OPS "$ENV_PYTHON" - >"$STATE_DIR/logs/mmcv-check.log" 2>&1 <<'PY'
import os

import mmcv
from mmcv.ops import get_compiling_cuda_version, nms

assert (2, 1) <= tuple(map(int, mmcv.__version__.split('.')[:2])) < (2, 2)
compiled_for = get_compiling_cuda_version()
print(compiled_for)
if os.environ['OPS'] == 'cuda':
    assert 'not available' not in compiled_for, compiled_for
PY
}

try_mmcv_wheel() {
    "${PIP[@]}" install --no-deps --force-reinstall "$@" \
        >"$STATE_DIR/logs/mmcv-wheel.log" 2>&1 9>&- && mmcv_works
}

cached_mmcv_wheel() {
    local wheel
    for wheel in "$CACHE_DIR/wheels/$1"/mmcv-*.whl; do
        if [[ -f $wheel ]]; then echo "$wheel"; fi
    done
}

# Any wheel built here before for this Python? (Its torch is not known yet.)
have_some_mmcv_wheel() {
    local tag
    tag=$("$1" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    compgen -G "$CACHE_DIR/wheels/mmcv$MMCV_VERSION-*-$tag-*/mmcv-*.whl" >/dev/null
}

# A prebuilt wheel where the user's pip looks?
have_prebuilt_mmcv() {
    "$1" -m pip download --disable-pip-version-check --no-deps \
        --only-binary :all: -d "$STATE_DIR/tmp" "mmcv==$MMCV_VERSION" \
        >"$STATE_DIR/logs/mmcv-prebuilt.log" 2>&1
}

has_python_headers() {
    "$1" -c 'import os, sys, sysconfig
path = os.path.join(sysconfig.get_paths()["include"], "Python.h")
sys.exit(not os.path.exists(path))'
}

# require_compiler PYTHON: before anything large is fetched, see that mmcv can
# be had: from the cache, as a prebuilt wheel, or with a compiler.
require_compiler() {
    local missing=
    command -v "${CXX:-g++}" >/dev/null || missing="a C++ compiler (apt install g++)"
    has_python_headers "$1" ||
        missing+="${missing:+ and }Python's C headers (apt install python3-dev)"
    [[ -n $missing ]] || return 0
    have_some_mmcv_wheel "$1" && return
    have_prebuilt_mmcv "$1" && return
    die "mmcv $MMCV_VERSION has to be compiled, which needs $missing"
}

# Processes at a time: the cores, but 2 GB of memory for each.
parallel_jobs() {
    local cores memory
    cores=$(nproc 2>/dev/null || echo 2)
    memory=$(awk '/MemAvailable/ {print int($2 / 2000000)}' /proc/meminfo 2>/dev/null || true)
    if [[ -n $memory ]] && ((memory < cores)); then cores=$memory; fi
    echo $((cores > 0 ? cores : 1))
}

# compile_progress LOG SECONDS: how far the compiler is, from ninja's own count.
compile_progress() {
    local count done_ all left=
    count=$(grep -aoE '^[[:space:]]*\[[0-9]+/[0-9]+\]' "$1" 2>/dev/null |
        tail -n 1 | tr -d '[] \t') || true
    if [[ -z $count ]]; then
        echo "mmcv: starting the compiler"
        return
    fi
    IFS=/ read -r done_ all <<<"$count"
    if ((done_ >= 5)); then
        left=", about $(minutes $(($2 * (all - done_) / done_))) left"
    fi
    echo "mmcv: $done_ of $all files compiled$left"
}

# pip runs setup.py before it hands over the source, which fails with Python
# 3.13 (see adapt_setup); so take what it unpacked.
fetch_mmcv_source() {
    local log=$STATE_DIR/logs/mmcv-source.log unpacked
    if [[ -d $1/mmcv-$MMCV_VERSION ]]; then return; fi
    rm -rf "$1/pip"
    mkdir "$1/pip"
    TMPDIR=$1/pip run_logged "$log" "${PIP[@]}" download --no-deps \
        --no-build-isolation --no-clean --no-binary mmcv -d "$1/pip" \
        "mmcv==$MMCV_VERSION" || grep -q "KeyError: '__version__'" "$log" ||
        explain_failure "source of mmcv" "$log"
    unpacked=$(compgen -G "$1/pip/pip-*/mmcv*/setup.py")
    mv "$(dirname "$unpacked")" "$1/mmcv-$MMCV_VERSION"
    rm -rf "$1/pip"
}

# adapt_setup FILE: mmcv's setup.py, for torch 2.14 and newer, whose headers
# refuse its C++ standard, and for Python 3.13, where exec() in a function
# leaves nothing in locals().
adapt_setup() {
    local major minor
    IFS=. read -r major minor _ <<<"$TORCH"
    if ((major > 2 || (major == 2 && minor >= 14))); then
        sed -i 's/-std=c++17/-std=c++20/g' "$1"
    fi
    sed -i -e "s/version_file, 'exec'))$/version_file, 'exec'), globals())/" \
        -e "s/return locals()\['__version__'\]/return __version__/" "$1"
}

# Set FLAGS, for CPPFLAGS: no debug information and, with gcc, torch's headers
# precompiled. The object code is the same, in a quarter of the time.
set_fast_flags() {
    local header=$1/torch_types.h standard
    FLAGS="${CPPFLAGS:-} -g0 -Winvalid-pch"
    ${CXX:-c++} --version | grep -q 'Free Software Foundation' || return 0
    standard=$(grep -oE -- '-std=c\+\+(17|20)' "$1/mmcv-$MMCV_VERSION/setup.py" |
        head -n 1)
    if CPPFLAGS=$FLAGS PROGRESS=compile_progress \
        run_logged "$STATE_DIR/logs/mmcv-header.log" \
        "$ENV_PYTHON" "$ROOT/tools/env/precompile_torch.py" "$header" "$standard"
    then
        FLAGS+=" -include '$header'"
    else
        rm -f "$header".*
    fi
}

# build_mmcv KEY: compile the source into the cache. A build that was stopped
# goes on where it was. When CUDA operators do not compile, there is no wheel and
# CUDA_BUILD_FAILED is set.
build_mmcv() {
    local build=$CACHE_DIR/build/$1 log=$STATE_DIR/logs/mmcv-build.log
    local jobs environment
    mkdir -p "$build" "$CACHE_DIR/wheels/$1"
    fetch_mmcv_source "$build"
    adapt_setup "$build/mmcv-$MMCV_VERSION/setup.py"
    jobs=${MAX_JOBS:-$(parallel_jobs)}
    say "      compiling $WHY, $jobs at a time; ${MMCV_TIME[$OPS]}"
    say "      (kept in $CACHE_DIR/wheels/$1)"
    set_fast_flags "$build"
    environment=(MMCV_WITH_OPS=1 MAX_JOBS="$jobs" CPPFLAGS="$FLAGS"
        PATH="$(dirname "$ENV_PYTHON"):$PATH")
    if [[ $OPS == cuda ]]; then
        environment+=(FORCE_CUDA=1 CUDA_HOME="$(dirname "$(dirname "$NVCC")")")
    else
        environment+=(FORCE_CUDA=0 CUDA_VISIBLE_DEVICES='')
    fi
    if ! PROGRESS=compile_progress run_logged "$log" env "${environment[@]}" \
        "${PIP[@]}" wheel -v --no-deps --no-build-isolation --no-cache-dir \
        -w "$build/wheel" "$build/mmcv-$MMCV_VERSION"; then
        [[ $OPS == cuda ]] || explain_failure "compiling mmcv" "$log"
        CUDA_BUILD_FAILED=1
        rm -f "$build"/torch_types.h*
        return
    fi
    mv "$build/wheel"/mmcv-*.whl "$CACHE_DIR/wheels/$1/"
    rm -rf "$build"
}

# Two clones must not compile into the same folder at the same time.
lock_mmcv_build() {
    command -v flock >/dev/null || return 0
    mkdir -p "$CACHE_DIR/build"
    exec 8>"$CACHE_DIR/build/$1.lock"
    flock -n 8 && return
    say "      another setup compiles the same mmcv; waiting for it"
    flock 8
}

compile_and_install_mmcv() {
    local key=$1 wheel
    lock_mmcv_build "$key"
    wheel=$(cached_mmcv_wheel "$key")
    if [[ -z $wheel ]]; then
        require_compiler "$ENV_PYTHON"
        build_mmcv "$key"
        wheel=$(cached_mmcv_wheel "$key")
        [[ -n $wheel ]] || return 0  # see build_mmcv
    fi
    if command -v flock >/dev/null; then exec 8>&-; fi
    try_mmcv_wheel "$wheel" || explain_failure \
        "mmcv was compiled, but its operators" "$STATE_DIR/logs/mmcv-check.log"
}

# Install mmcv from the first source that gives working operators.
install_mmcv() {
    local started=$SECONDS wheel
    read_torch_facts
    choose_ops
    next_step "mmcv $MMCV_VERSION"
    if mmcv_works; then
        say "      already there, and its operators work"
        mark_cpu_only
        return
    fi
    wheel=$(cached_mmcv_wheel "$(mmcv_key)")
    if [[ -n $wheel ]] && try_mmcv_wheel "$wheel"; then
        say "      built before, from $wheel"
    elif try_mmcv_wheel --only-binary mmcv "mmcv==$MMCV_VERSION"; then
        say "      a prebuilt wheel fits"
    else
        rm -f "$wheel"
        CUDA_BUILD_FAILED=
        compile_and_install_mmcv "$(mmcv_key)"
        if [[ -n $CUDA_BUILD_FAILED ]]; then fall_back_to_cpu_ops; fi
    fi
    mark_cpu_only
    say "      done in $(minutes $((SECONDS - started)))"
}

fall_back_to_cpu_ops() {
    local log=$STATE_DIR/logs/mmcv-build-cuda.log
    mv "$STATE_DIR/logs/mmcv-build.log" "$log"
    say "      its CUDA operators do not compile here (see $log)"
    OPS=cpu WHY="for the CPU, as its CUDA operators do not compile"
    if ! mmcv_works; then compile_and_install_mmcv "$(mmcv_key)"; fi
}

# Operators for the CPU only get a mark, also where there is no GPU now: the
# environment may be used on a machine with one.
mark_cpu_only() {
    rm -f "$STATE_DIR/cpu_only"
    if [[ -z $TORCH_CUDA ]] ||
        ! grep -q 'not available' "$STATE_DIR/logs/mmcv-check.log"; then
        return
    fi
    echo "$WHY; to use a GPU, run this on a machine that has one and nvcc of" \
        "CUDA ${TORCH_CUDA%%.*} (on PATH or in CUDA_HOME)" \
        >"$STATE_DIR/cpu_only"
    say "      $(<"$STATE_DIR/cpu_only")"
}
