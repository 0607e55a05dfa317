"""The two setup scripts: what they say and do where nothing is installed.

Every test works in a copy of the few files that the scripts look at, with a
PATH of its own, so that a missing or an old program can be played.
"""

import configparser
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.paths import ROOT

SCRIPTS = ('quickstart.sh', 'run_tests.sh')
BASH_FILES = sorted([*ROOT.glob('tools/*.sh'), *ROOT.glob('tools/env/*.sh'), ROOT / '.ci' / 'run'])
UTILITIES = (
    'awk bash cat chmod cp cut date df dirname env flock grep head '
    'ln mkdir mv nproc rm sed setsid sleep sort tail tar touch tr '
    'uname'
).split()
NEEDED = (
    'requirements',
    'tools/env',
    'tools/quickstart.sh',
    'tools/run_tests.sh',
    'setup.py',
    'setup.cfg',
    'pyproject.toml',
    'mmdet_centernet2/__init__.py',
)


@pytest.fixture
def clone(tmp_path) -> Path:
    """The part of a clone that the scripts look at."""
    folder = tmp_path / 'clone'
    for name in NEEDED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
    return folder


@pytest.fixture
def programs(tmp_path) -> Path:
    """A folder for PATH with the usual utilities, but no Python, no g++."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name in UTILITIES:
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    return folder


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('#!/bin/sh\n' + text)
    path.chmod(0o755)


# This Python under another name (a link would lose its environment), without
# pip: no test may change the environment that it runs in.
THIS_PYTHON = f'case "$*" in *"-m pip"*) exit 99 ;; esac\nexec {sys.executable} "$@"\n'


def link_python(programs: Path, name: str = 'python3') -> None:
    write_program(programs / name, THIS_PYTHON)


def run(
    script: Path, programs: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess:
    base = dict(
        PATH=str(programs),
        HOME=str(programs.parent),
        LANG='C.UTF-8',
        PIP_NO_INDEX='1',
        PIP_CONFIG_FILE=os.devnull,
    )
    return subprocess.run(
        [shutil.which('bash'), str(script), *arguments],
        env={**base, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


def the_error(done: subprocess.CompletedProcess, script: str) -> str:
    """The one line that a failed run says on stderr."""
    assert done.returncode != 0
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    prefix = f'{script}: error: '
    assert lines[0].startswith(prefix), done.stderr
    return lines[0][len(prefix) :]


@pytest.mark.parametrize('path', BASH_FILES, ids=lambda path: path.name)
def test_syntax(path):
    done = subprocess.run(['bash', '-n', str(path)], capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('script', SCRIPTS)
@pytest.mark.parametrize('option', ['--help', '-h'])
def test_help_needs_nothing(clone, programs, script, option):
    done = run(clone / 'tools' / script, programs, option)
    assert done.returncode == 0 and not done.stderr
    for word in (
        'Usage',
        script,
        '--active',
        'PYTHON',
        'MAX_JOBS',
        'XDG_CACHE_HOME',
        'TORCH_CUDA_ARCH_LIST',
    ):
        assert word in done.stdout
    assert not (clone / '.venv').exists()


@pytest.mark.parametrize('script', SCRIPTS)
def test_no_python(clone, programs, script):
    error = the_error(run(clone / 'tools' / script, programs), script)
    assert 'Python 3.10 to 3.13 is needed' in error
    assert 'apt install python3' in error and 'PYTHON=' in error


@pytest.mark.parametrize('version', ['2.7', '3.9', '3.14'])
def test_python_of_the_wrong_version(clone, programs, version):
    write_program(programs / 'python3', f'echo {version}\n')
    done = run(clone / 'tools' / 'quickstart.sh', programs)
    error = the_error(done, 'quickstart.sh')
    assert f'python3 is {version}' in error
    assert 'Python 3.10 to 3.13 is needed' in error


def test_a_later_python_that_fits_is_found(clone, programs):
    """The search goes on; g++ is what is missing then."""
    write_program(programs / 'python3', 'echo 3.9\n')
    link_python(programs, 'python3.11')
    done = run(clone / 'tools' / 'quickstart.sh', programs)
    assert 'apt install g++' in the_error(done, 'quickstart.sh')


@pytest.mark.parametrize(
    'python, reason', [('/no/such/python', 'does not run'), ('old', 'is Python 3.9')]
)
def test_python_asked_for_does_not_fit(clone, programs, python, reason):
    write_program(programs / 'old', 'echo 3.9\n')
    done = run(clone / 'tools' / 'run_tests.sh', programs, PYTHON=python)
    error = the_error(done, 'run_tests.sh')
    assert error.startswith(f'PYTHON={python} {reason}')


def test_no_compiler(clone, programs):
    link_python(programs)
    done = run(clone / 'tools' / 'run_tests.sh', programs)
    error = the_error(done, 'run_tests.sh')
    assert 'mmcv 2.1.0 has to be compiled' in error
    assert 'apt install g++' in error


def test_no_headers_of_python(clone, programs):
    """A Python whose include folder is empty, as without python3-dev."""
    write_program(programs / 'python3', 'case "$2" in *Python.h*) exit 1 ;; esac\n' + THIS_PYTHON)
    write_program(programs / 'g++', 'exit 0\n')
    done = run(clone / 'tools' / 'run_tests.sh', programs)
    error = the_error(done, 'run_tests.sh')
    assert "Python's C headers (apt install python3-dev)" in error
    assert 'g++' not in error


@pytest.mark.parametrize(
    'lost, said',
    [
        ('tools/env', 'tools/env'),
        ('requirements', 'requirements/constraints.txt'),
        ('setup.cfg', 'setup.cfg'),
    ],
)
def test_incomplete_clone(clone, programs, lost, said):
    path = clone / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = run(clone / 'tools' / 'quickstart.sh', programs)
    error = the_error(done, 'quickstart.sh')
    assert f'lacks {said}' in error and 'git clone' in error


def test_active_without_an_environment(clone, programs):
    done = run(clone / 'tools' / 'quickstart.sh', programs, '--active')
    assert 'no environment is active' in the_error(done, 'quickstart.sh')


def test_broken_venv_is_not_removed_but_named(clone, programs):
    write_program(clone / '.venv' / 'bin' / 'python', 'exit 1\n')
    done = run(clone / 'tools' / 'quickstart.sh', programs)
    error = the_error(done, 'quickstart.sh')
    assert f'{clone}/.venv is broken' in error and 'rm -rf' in error
    assert (clone / '.venv' / 'bin' / 'python').exists()


def test_venv_of_another_python_than_asked_for(clone, programs):
    write_program(clone / '.venv' / 'bin' / 'python', 'echo 3.12\n')
    write_program(programs / 'python3.10', 'echo 3.10\n')
    done = run(clone / 'tools' / 'quickstart.sh', programs, PYTHON='python3.10')
    error = the_error(done, 'quickstart.sh')
    assert 'has Python 3.12, but PYTHON=python3.10 is 3.10' in error


def test_full_disk(clone, programs):
    link_python(programs)
    (programs / 'df').unlink()
    write_program(programs / 'df', 'echo head; echo /dev/sda 9 9 900000 99% /\n')
    done = run(clone / 'tools' / 'quickstart.sh', programs)
    error = the_error(done, 'quickstart.sh')
    assert 'has 0 GB free, about 3 GB are needed' in error


# --- An environment that is up to date --------------------------------------


def state(
    clone: Path, action: str, profile: str = 'runtime', **environment: str
) -> subprocess.CompletedProcess:
    folder = clone / '.venv' / 'mmdet_centernet2'
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [
            sys.executable,
            str(clone / 'tools/env/env_state.py'),
            action,
            str(folder / f'state-{profile}.json'),
            profile,
        ],
        capture_output=True,
        text=True,
        env=dict(PATH='', **environment),
    )


@pytest.fixture
def ready_clone(clone) -> Path:
    """A clone whose .venv is this very environment, recorded as set up."""
    write_program(clone / '.venv' / 'bin' / 'python', THIS_PYTHON)
    (clone / 'tools' / 'quickstart.py').write_text(
        'import os, sys; print("job", sys.argv[1:], os.getcwd()); sys.exit(7)'
    )
    assert state(clone, 'write').returncode == 0
    return clone


def test_second_run_goes_straight_to_the_job(ready_clone, programs):
    done = run(ready_clone / 'tools' / 'quickstart.sh', programs, '--seed', '3', '--', '--help')
    assert not done.stderr
    assert 'is up to date' in done.stdout
    assert f"job ['--seed', '3', '--help'] {ready_clone}" in done.stdout
    assert done.returncode == 7, "the exit status of the job is the script's"
    assert '[1/' not in done.stdout, 'no setup step may run'


def test_setup_only_stops_before_the_job(ready_clone, programs):
    done = run(ready_clone / 'tools' / 'quickstart.sh', programs, '--setup-only')
    assert done.returncode == 0 and 'job' not in done.stdout


def test_active_environment_is_used_instead_of_venv(ready_clone, programs):
    active = programs.parent / 'active'
    write_program(active / 'bin' / 'python', 'echo 2.7\n')
    done = run(
        ready_clone / 'tools' / 'quickstart.sh', programs, '--active', VIRTUAL_ENV=str(active)
    )
    assert f'{active}/bin/python is Python 2.7' in the_error(done, 'quickstart.sh')


@pytest.fixture
def cpu_only_clone(ready_clone) -> Path:
    """Set up where no GPU was in sight, with a torch that can use one."""
    mark = ready_clone / '.venv' / 'mmdet_centernet2' / 'cpu_only'
    mark.write_text('for the CPU, as torch saw no GPU; to use a GPU, do so\n')
    (ready_clone / 'tools' / 'quickstart.py').write_text(
        'import os; print("seen", os.environ.get("CUDA_VISIBLE_DEVICES"))'
    )
    # No test may depend on what this machine has in the usual place.
    script = ready_clone / 'tools' / 'env' / 'mmcv.sh'
    script.write_text(script.read_text().replace('/usr/local/cuda', '/no/cuda'))
    state(ready_clone, 'write')
    return ready_clone


def test_gpu_that_mmcv_cannot_use_is_hidden(cpu_only_clone, programs):
    script = cpu_only_clone / 'tools' / 'quickstart.sh'
    done = run(script, programs)
    assert 'seen None' in done.stdout, 'there is no GPU to hide'
    assert 'GPU' not in done.stdout
    write_program(programs / 'nvidia-smi', 'exit 0\n')
    hidden = run(script, programs)
    assert hidden.stdout.endswith('seen \n')
    assert 'is up to date' in hidden.stdout
    assert (
        'The GPU is not used: mmcv was built for the CPU, as torch saw no GPU; to use a GPU, do so.'
    ) in hidden.stdout


@pytest.mark.parametrize('hidden', ['', '-1'])
def test_gpu_that_the_user_hides_is_no_gpu(cpu_only_clone, programs, hidden):
    write_program(programs / 'nvidia-smi', 'exit 0\n')
    done = run(cpu_only_clone / 'tools' / 'quickstart.sh', programs, CUDA_VISIBLE_DEVICES=hidden)
    assert 'GPU' not in done.stdout


@pytest.mark.parametrize('asked', [{}, dict(FORCE_CUDA='1'), dict(TORCH_CUDA_ARCH_LIST='9.0')])
def test_gpu_and_nvcc_that_turn_up_start_the_setup(cpu_only_clone, programs, asked):
    """Once only, when the new operators are for the CPU again."""
    home = programs.parent / 'cuda'
    write_program(home / 'bin' / 'nvcc', 'exit 0\n')
    if not asked:
        write_program(programs / 'nvidia-smi', 'exit 0\n')
    script = cpu_only_clone / 'tools' / 'quickstart.sh'
    done = run(script, programs, CUDA_HOME=str(home), **asked)
    assert f'Updating {cpu_only_clone}/.venv' in done.stdout
    state(cpu_only_clone, 'write', NVCC=f'{home}/bin/nvcc')
    again = run(script, programs, CUDA_HOME=str(home), **asked)
    assert 'is up to date' in again.stdout
    elsewhere = run(script, programs)
    assert 'is up to date' in elsewhere.stdout


@pytest.mark.parametrize(
    'arguments, worker', [([], r'gw\d'), (['-n', '0'], None), (['-p', 'no:xdist'], None)]
)
def test_tests_run_in_a_process_for_each_core(ready_clone, programs, arguments, worker):
    (ready_clone / 'tools' / 'env' / 'show_versions.py').write_text('')
    (ready_clone / 'tests').mkdir()
    (ready_clone / 'tests' / 'test_it.py').write_text(
        'import os, pytest\ndef test_it():\n    pytest.fail('
        "f\"in {os.environ.get('PYTEST_XDIST_WORKER')}, "
        "{os.environ['OMP_NUM_THREADS']} thread\")\n"
    )
    state(ready_clone, 'write', 'tests')
    done = run(ready_clone / 'tools' / 'run_tests.sh', programs, *arguments)
    assert re.search(f'in {worker}, 1 thread', done.stdout)


def test_state_notices_what_changed(ready_clone):
    assert state(ready_clone, 'check').returncode == 0
    assert state(ready_clone, 'check', 'tests').returncode == 1
    file = ready_clone / 'requirements' / 'constraints.txt'
    file.write_text(file.read_text() + '\n# another pin\n')
    done = state(ready_clone, 'check')
    assert done.returncode == 1 and done.stdout.startswith('files: ')


def test_state_notices_another_version(ready_clone):
    path = ready_clone / '.venv' / 'mmdet_centernet2' / 'state-runtime.json'
    text = path.read_text()
    changed = re.sub(r'("mmengine": )"[^"]*"', r'\1"0.9.0"', text)
    assert changed != text
    path.write_text(changed)
    done = state(ready_clone, 'check')
    assert done.returncode == 1 and done.stdout.startswith('packages: ')


# --- The parts, sourced -----------------------------------------------------


def source(clone: Path, code: str, environment: dict[str, str] | None = None) -> str:
    """Run bash code that has all functions of the scripts."""
    head = (
        f'set -Eeuo pipefail; PROGRAM=test.sh; ROOT={clone}; '
        f'source {clone}/tools/env/setup_env.sh; set_traps\n'
    )
    done = subprocess.run(
        ['bash', '-c', head + code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(environment or {})},
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    'log, remedy',
    [
        ('OSError: [Errno 28] No space left on device', 'the disk is full'),
        ('a.cpp:1: fatal error: Python.h: No such file or directory', 'apt install python3-dev'),
        ("error: command 'g++' failed: No such file or directory", 'apt install g++'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        (
            'Failed to establish a new connection: [Errno -3] Temporary failure in '
            'name resolution\nERROR: No matching distribution found for torch',
            'cannot be reached: check the network',
        ),
        ('ERROR: No matching distribution found for torch==2.13.0', 'no version of torch==2.13.0'),
        ("ERROR: [Errno 13] Permission denied: '/x/y'", "'/x/y'"),
        ('something else', 'the reason is in'),
    ],
)
def test_remedies(clone, tmp_path, log, remedy):
    file = tmp_path / 'log'
    file.write_text(f'first line\n{log}\nlast line\n')
    said = source(clone, f'diagnose "libraries" {file}').strip()
    assert said.startswith('libraries') and remedy in said
    assert '\n' not in said


def test_a_step_that_fails_ends_with_one_line(clone, tmp_path):
    said = source(
        clone,
        'STEPS=1; step "libraries" '
        f'{tmp_path}/log bash -c "echo No space left on device; exit 3"; '
        'echo not reached',
    )
    lines = said.strip().splitlines()
    assert lines[0] == '[1/1] libraries'
    assert lines[1].endswith('| No space left on device')
    assert lines[2].startswith('test.sh: error: libraries: the disk is full')
    assert len(lines) == 3


def test_an_unexpected_failure_ends_with_one_line(clone):
    said = source(clone, 'false; echo not reached').strip()
    assert said.startswith('test.sh: error: "false" failed with status 1')
    assert '\n' not in said


def test_what_runs_is_ended_with_the_script(clone, tmp_path):
    """Children of the running command, too."""
    pid = tmp_path / 'pid'
    said = source(
        clone,
        f'( sleep 1; kill -TERM $$ ) & run_logged {tmp_path}/log '
        f'bash -c "sleep 50 & echo \\$! > {pid}; wait"',
    )
    assert 'stopped (status 143); run it again to go on' in said
    status = Path('/proc', pid.read_text().strip(), 'status')
    for _ in range(50):  # the signal has been sent; give it time to arrive
        if not status.exists() or 'State:\tZ' in status.read_text():
            return
        time.sleep(0.1)
    pytest.fail('the child of the command is still there')


def test_progress_of_the_compiler(clone, tmp_path):
    log = tmp_path / 'log'
    log.write_text('Running command\n')
    assert 'starting the compiler' in source(clone, f'compile_progress {log} 9')
    log.write_text('  [1/77] c++ a.cpp\n  warning\n  [11/77] c++ b.cpp\n')
    said = source(clone, f'compile_progress {log} 110').strip()
    assert said == 'mmcv: 11 of 77 files compiled, about 11:00 left'


@pytest.mark.parametrize(
    'torch, standard',
    [
        ('2.1.2+cu118', '17'),
        ('2.13.0+cpu', '17'),
        ('2.14.0', '20'),
        ('2.20.1+cu140', '20'),
        ('3.0.0', '20'),
    ],
)
def test_standard_of_the_compiler(clone, tmp_path, torch, standard):
    file = tmp_path / 'setup.py'
    file.write_text("args = ['-std=c++17']\n")
    source(clone, f'TORCH={torch}; adapt_setup {file}')
    assert file.read_text() == f"args = ['-std=c++{standard}']\n"


# As in mmcv 2.1.0.
GET_VERSION = """
def get_version():
    version_file = 'mmcv/version.py'
    with open(version_file, encoding='utf-8') as f:
        exec(compile(f.read(), version_file, 'exec'))
    return locals()['__version__']
"""


def test_setup_of_mmcv_starts_with_python_3_13(clone, tmp_path, monkeypatch):
    """There, exec() in a function leaves nothing in locals()."""
    file = tmp_path / 'setup.py'
    file.write_text(GET_VERSION)
    for _ in range(2):  # a build that goes on adapts the file again
        source(clone, f'TORCH=2.13.0; adapt_setup {file}')
    assert 'locals' not in file.read_text()
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / 'version.py').write_text("__version__ = '2.1.0'\n")
    monkeypatch.chdir(tmp_path)
    assert runpy.run_path('setup.py')['get_version']() == '2.1.0'


@pytest.mark.parametrize(
    'compiler, works, included',
    [
        ('Free Software Foundation, Inc.', True, True),
        ('Free Software Foundation, Inc.', False, False),
        ('clang version 19', True, False),
    ],
)
def test_header_is_precompiled_with_gcc_only(clone, tmp_path, compiler, works, included):
    """Whatever goes wrong with it, mmcv is compiled without."""
    write_program(tmp_path / 'c++', f'echo {compiler}\n')
    write_program(tmp_path / 'python', f'{str(works).lower()}\n')
    (tmp_path / 'mmcv-2.1.0').mkdir()
    (tmp_path / 'mmcv-2.1.0' / 'setup.py').write_text("['-std=c++17']\n")
    (tmp_path / 'logs').mkdir()
    said = source(
        clone,
        f'STATE_DIR={tmp_path} ENV_PYTHON={tmp_path}/python '
        f'CXX={tmp_path}/c++; set_fast_flags {tmp_path}; echo "$FLAGS"',
        dict(CPPFLAGS='-DMINE'),
    )
    header = f" -include '{tmp_path}/torch_types.h'" if included else ''
    assert said == f'-DMINE -g0 -Winvalid-pch{header}\n'


@pytest.mark.parametrize(
    'cuda, nvcc, gpu, extra, ops, words',
    [
        ('', '13.0', 0, {}, 'cpu', 'torch 2.x has no CUDA'),
        ('13.0', '13.1', 1, {}, 'cuda', 'the GPU in this machine'),
        ('13.0', '12.8', 1, {}, 'cpu', 'nvcc of CUDA 13.0 is not there'),
        ('13.0', None, 1, {}, 'cpu', 'found none'),
        ('13.0', '13.0', 0, {}, 'cpu', 'saw no GPU'),
        ('13.0', '13.0', 0, dict(TORCH_CUDA_ARCH_LIST='9.0'), 'cuda', '9.0'),
        ('13.0', '13.0', 1, dict(FORCE_CUDA='1'), 'cuda', 'CUDA 13.0'),
    ],
)
def test_choice_of_operators(clone, tmp_path, cuda, nvcc, gpu, extra, ops, words):
    home = tmp_path / 'cuda'
    find = 'find_nvcc() { :; }'
    if nvcc:
        write_program(home / 'bin' / 'nvcc', f'echo "Cuda compilation tools, release {nvcc}, V1"\n')
        find = ''
    said = source(
        clone,
        f'{find}\nTORCH=2.x TORCH_CUDA={cuda} GPU={gpu}; choose_ops; echo "$OPS|$WHY"',
        dict(CUDA_HOME=str(home), FORCE_CUDA='0', TORCH_CUDA_ARCH_LIST='') | extra,
    )
    found_ops, why = said.strip().split('|')
    assert found_ops == ops
    assert words in why


def test_cuda_without_gpu_or_architecture_is_refused(clone, tmp_path):
    home = tmp_path / 'cuda'
    write_program(home / 'bin' / 'nvcc', 'echo "release 13.0, V1"\n')
    said = source(
        clone,
        'TORCH=2.x TORCH_CUDA=13.0 GPU=0; choose_ops; echo compiling',
        dict(CUDA_HOME=str(home), FORCE_CUDA='1', TORCH_CUDA_ARCH_LIST=''),
    )
    assert said.startswith('test.sh: error: FORCE_CUDA=1, but torch sees no')
    assert 'TORCH_CUDA_ARCH_LIST=8.0' in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    'cuda, compiled_for, marked',
    [
        ('13.0', 'not available', True),
        ('13.0', '13.0', False),  # compiled before, on a machine with a GPU
        ('', 'not available', False),
    ],
)
def test_operators_for_the_cpu_only_are_marked(clone, tmp_path, cuda, compiled_for, marked):
    (tmp_path / 'logs').mkdir()
    (tmp_path / 'logs' / 'mmcv-check.log').write_text(compiled_for + '\n')
    said = source(clone, f'STATE_DIR={tmp_path} TORCH_CUDA={cuda} WHY="for the CPU"; mark_cpu_only')
    mark = tmp_path / 'cpu_only'
    assert mark.exists() == marked
    if marked:
        assert said.strip() == mark.read_text().strip()
        assert 'nvcc of CUDA 13 (on PATH' in said


def test_wheels_of_different_kinds_are_kept_apart(clone):
    code = """
    PYTAG=cp311-linux_x86_64 OPS=cpu TORCH_CUDA=; gpu_arch() { echo 9.0; }
    for TORCH in 2.13.0+cpu 2.13.0+cu130; do mmcv_key; done
    OPS=cuda TORCH_CUDA=13.0; mmcv_key
    TORCH_CUDA_ARCH_LIST="8.0;9.0"; mmcv_key
    PYTAG=cp312-linux_x86_64; mmcv_key
    """
    keys = source(clone, code).split()
    assert len(set(keys)) == 5
    assert all(re.fullmatch(r'[\w.+-]+', key) for key in keys), keys


@pytest.mark.parametrize(
    'torch, numpy, pinned',
    [
        ('', '2.2.6', True),
        ('2.0.1', '2.2.6', True),
        ('2.13.0', '2.2.6', False),
        ('2.11.0+cu130', '2.2.6', False),
        ('2.2.2+cu121', '1.26.4', False),
    ],
)
def test_pins_make_room_for_a_torch_that_is_there(clone, tmp_path, torch, numpy, pinned):
    source(
        clone, f'STATE_DIR={tmp_path}; installed_version() {{ echo {torch}; }}\nwrite_constraints'
    )
    pins = (tmp_path / 'constraints.txt').read_text().splitlines()
    assert f'numpy=={numpy}' in pins
    assert any(line.startswith('torch==') for line in pins) == pinned


def steps_of(clone: Path, profile: str) -> list:
    """What the setup would have pip install, a line for each step."""
    code = f"""
    STATE_DIR={clone}; ENV_PYTHON={sys.executable}; PIP=(pip)
    installed_version() {{ :; }}; state() {{ :; }}; install_mmcv() {{ :; }}
    step() {{ shift 2; echo "$@"; }}
    install_everything {profile}"""
    said = source(clone, code).replace(f'{clone}/', '')
    steps = [line for line in said.splitlines() if line.startswith('pip ')]
    assert steps, said
    return steps


def test_only_the_tests_need_what_export_takes(clone):
    runtime = '\n'.join(steps_of(clone, 'runtime'))
    for name in ('deploy', 'mmdeploy', 'eval', 'openvino', 'sahi', 'tests'):
        assert f'requirements/{name}.txt' not in runtime
    tests = steps_of(clone, 'tests')
    for name in ('deploy', 'eval', 'openvino', 'tests', 'mmdeploy', 'sahi'):
        steps = [line for line in tests if f'requirements/{name}.txt' in line]
        assert len(steps) == 1, tests
        assert ('--no-deps' in steps[0]) == (name in ('mmdeploy', 'sahi'))


# --- The lists --------------------------------------------------------------

REQUIREMENTS = ROOT / 'requirements'
CONSTRAINTS = REQUIREMENTS / 'constraints.txt'
PYTHONS = ('3.10', '3.11', '3.12', '3.13')


def listed(name: str) -> set:
    """Canonical names of the packages in a list."""
    lines = (REQUIREMENTS / f'{name}.txt').read_text().splitlines()
    return {
        canonicalize_name(Requirement(line).name)
        for line in lines
        if line and not line.startswith('#')
    }


def pins_for(python: str) -> dict[str, str]:
    """Package to pinned version; no package may have two for one Python."""
    pins: dict[str, str] = {}
    for line in CONSTRAINTS.read_text().splitlines():
        if not line or line.startswith('#'):
            continue
        pin = Requirement(line)
        (specifier,) = pin.specifier
        assert specifier.operator == '==' and '*' not in specifier.version
        if pin.marker and not pin.marker.evaluate(dict(python_version=python)):
            continue
        name = canonicalize_name(pin.name)
        assert name not in pins, f'{name} is pinned twice for {python}'
        pins[name] = specifier.version
    return pins


@pytest.mark.parametrize('python', PYTHONS)
def test_every_listed_package_is_pinned(python):
    pinned = set(pins_for(python))
    for file in REQUIREMENTS.glob('*.txt'):
        assert listed(file.stem) <= pinned
    assert {'torch', 'mmcv'} <= pinned


@pytest.mark.parametrize('python', PYTHONS)
def test_pins_are_in_the_range_that_the_package_accepts(python):
    from mmdet_centernet2.utils.versions import COMPANIONS

    pins = pins_for(python)
    for module, (minimum, below, _) in COMPANIONS.items():
        if minimum is not None:
            release = Version(pins[module]).release
            assert Version(minimum).release <= release
            assert below is None or release < Version(below).release
    assert int(pins['setuptools'].split('.')[0]) < 81


def extras() -> dict[str, str]:
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    return dict(config['options.extras_require'])


def test_extras_are_the_lists():
    """Of what the setup installs, too."""
    for name in ('deploy', 'eval', 'openvino', 'tests'):
        assert extras()[name] == f'file: requirements/{name}.txt'


@pytest.mark.parametrize('python', PYTHONS)
def test_pins_are_what_the_lists_accept(python):
    pins = pins_for(python)
    for file in REQUIREMENTS.glob('*.txt'):
        for line in file.read_text().splitlines():
            if line and not line.startswith('#'):
                need = Requirement(line)
                if need.marker is None or need.marker.evaluate(dict(python_version=python)):
                    name = canonicalize_name(need.name)
                    assert need.specifier.contains(pins[name]), need


def test_mmdeploy_is_never_installed_with_its_list():
    """Its list asks for a protobuf that no current onnx takes."""
    assert 'mmdeploy' not in ''.join(extras().values())
    for file in REQUIREMENTS.glob('*.txt'):
        if file.stem not in ('mmdeploy', 'constraints'):
            assert 'mmdeploy' not in listed(file.stem)


def test_ci_runs_the_tests_script_and_nothing_else():
    lines = (ROOT / '.ci' / 'run').read_text().split('\n')
    assert [line for line in lines if line and not line.startswith('#')] == [
        'bash tools/run_tests.sh'
    ]
