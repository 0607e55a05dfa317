"""The two setup scripts, and the lists of what they install."""

import configparser
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mmdet_centernet2.utils.versions import FAMILIES, TORCH
from tests.paths import ROOT

sys.path.append(str(ROOT / 'tools' / 'env'))
import build_mmcv  # noqa: E402
import setup_env  # noqa: E402

SCRIPTS = ('quickstart.sh', 'run_tests.sh')
NEEDED = ('requirements', 'tools/env', 'setup.cfg', *(f'tools/{name}' for name in SCRIPTS))
JOB = """import os, sys
print("job", sys.argv[1:], os.getcwd(), "GPU", os.environ.get("CUDA_VISIBLE_DEVICES"))
sys.exit(7)
"""
RECORD = """from setup_env import *
environment = Environment(parse()[0])
environment.logs.mkdir(parents=True, exist_ok=True)
environment.record.write_text(json.dumps(environment.current()))
"""


@pytest.fixture
def clone(tmp_path) -> Path:
    """The part of a clone that the scripts look at."""
    folder = tmp_path / 'clone'
    for name in NEEDED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, folder / name)
    (folder / 'tools' / 'quickstart.py').write_text(JOB)
    return folder


@pytest.fixture
def ready_clone(clone) -> Path:
    """A clone whose environment is recorded as set up."""
    venv.create(clone / '.venv', with_pip=False)
    next(clone.glob('.venv/lib/*/site-packages')).joinpath('pip.py').touch()
    record(clone)
    return clone


def record(clone: Path, **environment: str) -> None:
    command = [clone / '.venv' / 'bin' / 'python', '-c', RECORD, 'quickstart.sh']
    options = dict(cwd=clone / 'tools' / 'env', check=True)
    subprocess.run(command, env={**clean_environment(clone), **environment}, **options)


def clean_environment(clone: Path) -> dict[str, str]:
    names = 'VIRTUAL_ENV CONDA_PREFIX PYTHON FORCE_CUDA TORCH_CUDA_ARCH_LIST CUDA_VISIBLE_DEVICES'
    kept = {name: value for name, value in os.environ.items() if name not in names.split()}
    return {**kept, 'XDG_CACHE_HOME': str(clone.parent / 'cache'), 'PIP_NO_INDEX': '1'}


def run(clone: Path, script: str, *arguments: str, **environment: str):
    return subprocess.run(
        ['bash', str(clone / 'tools' / script), *arguments],
        env={**clean_environment(clone), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


def the_error(done: subprocess.CompletedProcess) -> str:
    """The one line that a failed run says on stderr."""
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    script, said, text = line.partition(': error: ')
    assert script in SCRIPTS and said, line
    return text


def stub(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('#!/bin/sh\n' + text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize('script', SCRIPTS)
def test_help(clone, script):
    done = run(clone, script, '--help')
    assert done.returncode == 0 and not done.stderr
    assert f'bash tools/{script} [--active]' in done.stdout
    assert not (clone / '.venv').exists()


def test_python_that_does_not_fit(clone):
    """One that is asked for is named; else the next is taken."""
    programs = clone.parent / 'bin'
    old = stub(programs / 'python3', 'exit 1')
    error = the_error(run(clone, 'run_tests.sh', PYTHON=str(old)))
    assert error.startswith(f'{old} is not Python 3.10 to 3.13: install one')
    stub(programs / 'python3.13', f'exec {sys.executable} "$@"')
    path = f'{programs}:{os.environ["PATH"]}'
    assert run(clone, 'run_tests.sh', '--help', PATH=path).returncode == 0


def test_environments_that_do_not_fit_are_named(clone):
    """And left alone."""
    error = the_error(run(clone, 'quickstart.sh', '--active'))
    assert error.startswith('--active:') and 'is in no active environment' in error
    python = stub(clone / '.venv' / 'bin' / 'python', 'exit 1\n')
    error = the_error(run(clone, 'quickstart.sh'))
    assert f'{clone}/.venv is broken' in error and 'rm -rf' in error
    assert python.exists()


@pytest.mark.slow
def test_no_compiler_is_said_before_anything_is_fetched(clone):
    """In a real environment, made from this Python."""
    done = run(clone, 'run_tests.sh', PYTHON=sys.executable, CXX='/no/compiler')
    error = the_error(done)
    assert error.startswith('mmcv 2.1.0 has to be compiled, which needs a C++ compiler (apt')
    assert 'torch' not in done.stdout


def test_second_run_goes_straight_to_the_job(ready_clone):
    done = run(ready_clone, 'quickstart.sh', '--seed', '3', '--', '--help')
    assert not done.stderr
    ready, job = done.stdout.splitlines()
    assert ready == f'Environment {ready_clone}/.venv is up to date.'
    assert job.startswith(f"job ['--seed', '3', '--help'] {ready_clone}")
    assert done.returncode == 7, "the exit status of the job is the script's"
    done = run(ready_clone, 'quickstart.sh', '--setup-only')
    assert done.returncode == 0 and 'job' not in done.stdout


def test_gpu_that_mmcv_cannot_use_is_hidden(ready_clone):
    mark = ready_clone / '.venv' / 'mmdet_centernet2' / 'cpu_only'
    mark.write_text('for the CPU, as torch saw no GPU; to use a GPU, do so')
    programs = ready_clone.parent / 'bin'
    stub(programs / 'nvidia-smi', 'echo GPU 0\n')
    stub(programs / 'nvcc', '')
    path = {'PATH': f'{programs}:{os.environ["PATH"]}', 'CUDA_HOME': '/none'}
    # nvcc is there, too: this starts a setup, once
    assert 'up to date' not in run(ready_clone, 'quickstart.sh', **path, CXX='/none').stdout
    record(ready_clone, **path)
    done = run(ready_clone, 'quickstart.sh', **path)
    assert 'is up to date' in done.stdout and done.stdout.endswith('GPU \n')
    assert 'not used: mmcv was built for the CPU, as torch saw no GPU; to use' in done.stdout
    for hidden in ('', '-1'):
        done = run(ready_clone, 'quickstart.sh', **path, CUDA_VISIBLE_DEVICES=hidden)
        assert 'The GPU' not in done.stdout


# --- The parts ---------------------------------------------------------------


@pytest.fixture
def here(clone, monkeypatch) -> setup_env.Environment:
    """This Python as the environment of a clone."""
    monkeypatch.setattr(sys, 'argv', ['setup_env.py', 'quickstart.sh'])
    monkeypatch.setattr(setup_env, 'LISTS', clone / 'requirements')
    made = setup_env.Environment(setup_env.parse()[0])
    made.folder, made.python, made.state = clone, sys.executable, clone
    made.logs, made.mark, made.record = clone, clone / 'mark', clone / 'state.json'
    return made


def test_what_changed_is_noticed(here, clone):
    assert not here.up_to_date(), 'never set up'
    state = here.current()

    def recorded(**changes) -> bool:
        here.record.write_text(json.dumps({**state, **changes}))
        return here.up_to_date()

    assert recorded()
    assert recorded(packages=state['packages'][1:]), 'another package does no harm'
    assert not recorded(packages=[*state['packages'], 'gone-1.0.dist-info'])
    assert not recorded(clone='another')
    assert not recorded(python='another')
    assert recorded(tests=True)
    here.tests = True
    assert not recorded(), 'what the tests need is not there'
    assert recorded(tests=True)
    file = clone / 'requirements' / 'constraints.txt'
    file.write_text(file.read_text() + '\n# another pin\n')
    assert not here.up_to_date()


@pytest.mark.parametrize(
    'settings, options',
    [
        ('', []),
        ("global.index-url='a'\n:env:.index-url='b'\n", ['--index-url', 'b']),
        ("install.find-links='c d'", ['--find-links', 'c', '--find-links', 'd']),
        ("global.no-index='true'\nglobal.timeout='9'", ['--no-index']),
        ("freeze.no-binary='x'", []),
        ("global.no-binary='x'", None),
    ],
)
def test_uv_takes_the_settings_of_pip(here, monkeypatch, settings, options):
    """Of what only pip knows, pip is used."""
    monkeypatch.setattr(setup_env, 'output_of', lambda *command: settings)
    monkeypatch.setattr(here, 'find_uv', lambda: 'uv')
    command = here.uv_command()
    if options is None:
        assert command == []
    else:
        assert command[:3] == ['uv', 'pip', 'install']
        assert command[command.index('unsafe-best-match') + 1 :] == options
    here.own = False
    assert here.uv_command() == []


def test_pip_installs_what_uv_cannot(here, clone):
    here.python, here.uv = str(stub(clone / 'python', 'echo "$@"\n')), ['false']
    here.install('libraries', 'numpy')
    assert '-m pip' in (clone / 'libraries.log').read_text()
    assert here.uv == []


@pytest.mark.parametrize('torch, pinned', [(None, True), ('2.11.0', False)])
def test_a_torch_that_is_there_stays(here, clone, monkeypatch, torch, pinned):
    monkeypatch.setattr(setup_env, 'installed', lambda name: torch)
    monkeypatch.setattr(here, 'require_compiler', lambda: None)
    monkeypatch.setattr(here, 'uv_command', lambda: [sys.executable, '-c', '1/0'])
    here.python = str(stub(clone / 'python', 'exit 1\n'))
    with pytest.raises(SystemExit):
        here.install_everything()
    pins = (clone / 'constraints.txt').read_text()
    assert ('\ntorch==' in pins) == pinned and '\nnumpy==' in pins


def test_operators_for_the_cpu_only_are_marked(here, clone):
    for cuda in ('13.0', None):
        (clone / 'mmcv.json').write_text(json.dumps(dict(wheel=None, why='for the CPU', cuda=cuda)))
        here.finish_mmcv(setup_env.Step('mmcv', clone / 'mmcv.log', ['true']))
        assert here.mark.exists() == bool(cuda)
        if cuda:
            assert 'nvcc of CUDA 13.0 (on PATH' in here.mark.read_text()


@pytest.mark.parametrize(
    'log, remedy',
    [
        ('OSError: [Errno 28] No space left on device', 'the disk is full'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        (
            'Temporary failure in name resolution\nERROR: No matching distribution found for torch',
            'cannot be reached: check the network',
        ),
        ('ERROR: No matching distribution found for torch==2.13.0', 'no version of torch==2.13.0'),
        ("ERROR: [Errno 13] Permission denied: '/x/y'", "'/x/y'"),
        ('FORCE_CUDA=1, but torch sees no GPU', 'FORCE_CUDA=1, but torch'),
        ('something else', 'the reason is in'),
    ],
)
def test_a_step_that_fails_ends_with_one_line(tmp_path, capsys, monkeypatch, log, remedy):
    monkeypatch.setattr(sys, 'argv', ['setup_env.py', 'quickstart.sh'])
    step = setup_env.Step('libraries', tmp_path / 'log', ['sh', '-c', 'echo "$0"; exit 3', log])
    assert not step.succeeds()
    with pytest.raises(SystemExit):
        step.explain()
    *tail, last = capsys.readouterr().err.splitlines()
    assert last.startswith('quickstart.sh: error: libraries: ') and remedy in last
    assert [line.split('| ')[1] for line in tail] == log.splitlines()


def test_what_runs_is_ended_with_its_children(tmp_path):
    log, end = tmp_path / 'log', time.monotonic() + 20
    setup_env.Step('sleep', log, ['sh', '-c', 'sleep 50 & echo $!; wait'])
    while not log.read_text().strip():
        time.sleep(0.05)
    setup_env.Step.end_all()
    setup_env.Step.running.clear()
    status = Path('/proc', log.read_text().strip(), 'status')
    while status.exists() and 'State:\tZ' not in status.read_text():
        assert time.monotonic() < end, 'the child of the command is still there'
        time.sleep(0.1)


def test_progress_of_the_compiler(tmp_path):
    step = SimpleNamespace(log=tmp_path / 'log', started=time.monotonic() - 110)
    step.log.write_text('Running command\nstill')
    assert setup_env.Step.progress(step) == 'Running command'
    step.log.write_text('  [1/77] c++ a.cpp\n  warning\n  [11/77] c++ b.cpp\n')
    assert setup_env.Step.progress(step) == '11 of 77 files compiled, about 11:00 left'


# As in mmcv 2.1.0.
SETUP_OF_MMCV = """args = ['-std=c++17']
def get_version():
    version_file = 'mmcv/version.py'
    with open(version_file, encoding='utf-8') as f:
        exec(compile(f.read(), version_file, 'exec'))
    return locals()['__version__']
"""


@pytest.mark.parametrize(
    'torch, standard', [('2.13.0+cpu', '17'), ('2.14.0', '20'), ('3.0.0', '20')]
)
def test_setup_of_mmcv_is_adapted(tmp_path, monkeypatch, torch, standard):
    """To torch, and to Python 3.13, where exec() leaves nothing in locals()."""
    monkeypatch.setattr(build_mmcv.torch, '__version__', torch)
    file = tmp_path / 'setup.py'
    file.write_text(SETUP_OF_MMCV)
    for _ in range(2):  # a build that goes on adapts the file again
        build_mmcv.adapt_setup(file)
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / 'version.py').write_text("__version__ = '2.1.0'\n")
    monkeypatch.chdir(tmp_path)
    module = runpy.run_path('setup.py')
    assert module['get_version']() == '2.1.0' and 'locals' not in file.read_text()
    assert module['args'] == [f'-std=c++{standard}']


@pytest.mark.parametrize(
    'compiler, works, included',
    [
        ('Free Software Foundation, Inc.', True, True),
        ('Free Software Foundation, Inc.', False, False),
        ('clang version 19', True, False),
    ],
)
def test_header_is_precompiled_with_gcc_only(tmp_path, monkeypatch, compiler, works, included):
    """Whatever goes wrong with it, mmcv is compiled without."""
    monkeypatch.setenv('CXX', str(stub(tmp_path / 'c++', f'echo {compiler}\n')))
    monkeypatch.setenv('CPPFLAGS', '-DMINE')

    def precompile(header, standard):
        if not works:
            raise subprocess.CalledProcessError(1, 'c++')

    monkeypatch.setattr(build_mmcv, 'precompile_torch', precompile)
    build_mmcv.set_fast_flags(tmp_path, '-std=c++17')
    header = f' -include {tmp_path}/torch_types.h' if included else ''
    assert os.environ['CPPFLAGS'] == f'-DMINE -g0 -Winvalid-pch{header}'


@pytest.mark.parametrize(
    'cuda, nvcc, gpu, extra, kind, words',
    [
        (None, '13.0', 0, {}, 'cpu', 'has no CUDA'),
        ('13.0', '13.1', 1, {}, 'cuda13.0-9.0', 'with CUDA 13.1 for 9.0'),
        ('13.0', '12.8', 1, {}, 'cpu', 'nvcc of CUDA 13.0 is not there (found 12.8)'),
        ('13.0', None, 1, {}, 'cpu', 'found none'),
        ('13.0', '13.0', 0, {}, 'cpu', 'saw no GPU'),
        ('13.0', '13.0', 0, dict(TORCH_CUDA_ARCH_LIST='8.0;9.0'), 'cuda13.0-8.0;9.0', '8.0;9.0'),
        ('13.0', '13.0', 1, dict(FORCE_CUDA='1'), 'cuda13.0-9.0', 'CUDA 13.0'),
        ('13.0', '13.0', 0, dict(FORCE_CUDA='1'), None, 'TORCH_CUDA_ARCH_LIST=8.0'),
    ],
)
def test_choice_of_operators(tmp_path, monkeypatch, cuda, nvcc, gpu, extra, kind, words):
    for name in ('TORCH_CUDA_ARCH_LIST', 'FORCE_CUDA'):
        monkeypatch.delenv(name, raising=False)
    for name, value in extra.items():
        monkeypatch.setenv(name, value)
    torch = build_mmcv.torch
    monkeypatch.setattr(torch.version, 'cuda', cuda)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: bool(gpu))
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpu)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
    program = stub(tmp_path / 'nvcc', f'echo "Cuda compilation tools, release {nvcc}, V1"\n')
    if kind is None:
        with pytest.raises(SystemExit, match=words):
            build_mmcv.find_kind(str(program))
    else:
        found, why = build_mmcv.find_kind(str(program) if nvcc else '')
        assert found == kind and words in why


@pytest.mark.parametrize(
    'there, fails, kinds, missing',
    [
        (None, (), ['cuda'], None),
        (None, ('cuda',), ['cuda', 'cpu'], '13.0'),
        ('cpu', (), ['cuda'], None),
        ('cpu', ('cuda',), ['cuda'], '13.0'),
        ('cuda', (), [], None),
    ],
)
def test_what_is_compiled(tmp_path, monkeypatch, there, fails, kinds, missing):
    """Where CUDA does not compile, the CPU is used; what is there and fits stays."""
    tried = []

    def build(distribution, version, wheels):
        tried.append(re.search('2.13.0-(cuda|cpu)', wheels.name).group(1))
        if tried[-1] in fails:
            raise subprocess.CalledProcessError(1, 'ninja')
        wheels.mkdir(parents=True)
        (wheels / 'mmcv.whl').touch()

    for name in ('MAX_JOBS', 'FORCE_CUDA', 'MMCV_WITH_OPS', 'CUDA_HOME', 'CUDA_VISIBLE_DEVICES'):
        monkeypatch.setenv(name, '1')  # set back afterwards
    monkeypatch.setattr(build_mmcv, 'build', build)
    monkeypatch.setattr(build_mmcv, 'installed_kind', lambda *wanted: there)
    monkeypatch.setattr(build_mmcv, 'find_kind', lambda nvcc: ('cuda13.0-9.0', 'with CUDA'))
    monkeypatch.setattr(build_mmcv.torch, '__version__', '2.13.0')
    monkeypatch.setattr(build_mmcv.torch.version, 'cuda', '13.0')
    result = tmp_path / 'result'
    build_mmcv.main('mmcv', '2.1.0', str(tmp_path), str(result), '/cuda/bin/nvcc')
    made = json.loads(result.read_text())
    assert tried == kinds and made['cuda'] == missing
    assert bool(made['wheel']) == (bool(kinds) and kinds[-1] not in fails)


# --- The lists --------------------------------------------------------------

REQUIREMENTS = ROOT / 'requirements'


def listed(name: str, python: str) -> list[Requirement]:
    """What a list asks for with one Python, by canonical names."""
    lines = (REQUIREMENTS / f'{name}.txt').read_text().splitlines()
    needs = [Requirement(line) for line in lines if line and not line.startswith('#')]
    for need in needs:
        need.name = canonicalize_name(need.name)
    here = dict(python_version=python)
    return [need for need in needs if need.marker is None or need.marker.evaluate(here)]


def pins_for(python: str) -> dict[str, str]:
    """Package to pinned version; no package may have two for one Python."""
    pins = {}
    for need in listed('constraints', python):
        (specifier,) = need.specifier
        assert specifier.operator == '==' and '*' not in specifier.version
        assert need.name not in pins, f'{need.name} is pinned twice for {python}'
        pins[need.name] = specifier.version
    return pins


@pytest.mark.parametrize('python', ('3.10', '3.11', '3.12', '3.13'))
def test_pins_fit_the_lists_and_the_package(python):
    pins = pins_for(python)
    for file in REQUIREMENTS.glob('*.txt'):
        for need in listed(file.stem, python):
            assert need.specifier.contains(pins[need.name]), need
    assert Version(TORCH).release <= Version(pins['torch']).release
    assert setup_env.TORCH == f'torch>={TORCH}'
    for family in FAMILIES.values():
        for name, minimum, below in family.values():
            release = Version(pins[name]).release
            assert Version(minimum).release <= release < Version(below).release
    assert int(pins['setuptools'].split('.')[0]) < 81


def test_extras_are_the_lists():
    """Of what the setup installs, too."""
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    for name in ('deploy', 'openvino', 'tests'):
        assert config['options.extras_require'][name] == f'file: requirements/{name}.txt'
