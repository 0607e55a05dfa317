"""Set up the environment of this clone, then run a program in it.

``setup_env.py SCRIPT ...``, for ``tools/quickstart.sh`` and
``tools/run_tests.sh``. Starts on any Python from 3.8 on, makes ``.venv`` and
goes on in there.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import sysconfig
import time
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from steps import Step, die, minutes, output_of, say

ROOT = Path(__file__).resolve().parents[2]
LISTS = ROOT / 'requirements'
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'mmdet_centernet2')
PYTHONS = ('3.10', '3.11', '3.12', '3.13')
TORCH = 'torch>=2.6'
# A stack has a list of its own; here, the distribution of its mmcv.
STACKS = {'openmmlab': 'mmcv', 'onedl': 'onedl-mmcv'}
# What the tests need beyond the rest; the second without their own lists.
FOR_TESTS = (('deploy', 'openvino', 'tests'), ('mmdeploy', 'sahi'))
# pip's settings that uv knows by the same name, and those that it need not know.
UV_OPTIONS = ('index-url', 'extra-index-url', 'find-links', 'constraint', 'trusted-host')
IGNORED = (
    'cert default-timeout disable-pip-version-check no-index no-input prefix progress-bar retries '
    'root-user-action target timeout user'
).split()
EPILOG = """Needs Python 3.10 to 3.13 with pip, gcc and g++; writes to this clone and your cache
folder only. The environment variables that count: docs/install.md."""
# Prints where a CUDA build of torch that will do is imported from.
HOST_TORCH = """
import os, sys, torch
if tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 6) and torch.version.cuda:
    print(*(os.path.abspath(path) for path in sys.path if path.endswith('-packages')), sep='\\n')
"""
CHECK_MMCV = 'from mmcv.ops import get_compiling_cuda_version as cuda, nms; print(cuda())'


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def pinned(name: str) -> str:
    text = (LISTS / 'constraints.txt').read_text()
    return re.search(rf'^{re.escape(name)}==(\S+)', text, re.MULTILINE).group(1)


def parallel_jobs() -> int:
    """Processes at a time: the cores, but 2 GB of memory for each."""
    memory = re.search(r'MemAvailable: *(\d+)', Path('/proc/meminfo').read_text()).group(1)
    return max(1, min(len(os.sched_getaffinity(0)), int(memory) // 2_000_000))


def find_nvcc() -> str | None:
    home = os.environ.get('CUDA_HOME', '/nonexistent')
    paths = [f'{home}/bin/nvcc', shutil.which('nvcc') or '', '/usr/local/cuda/bin/nvcc']
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def gpu_in_sight() -> bool:
    hidden = os.environ.get('CUDA_VISIBLE_DEVICES', '0')[:1] in ('', '-')
    return not hidden and bool(output_of('nvidia-smi', '-L'))


def describe_python(python: str | None) -> list[str]:
    """Version (3.11), path and prefix of an interpreter; empty if it does not run."""
    code = 'import sys; print("%d.%d" % sys.version_info[:2], sys.executable, sys.prefix, sep="|")'
    found = output_of(python or 'false', '-c', code).split('|')
    return found if len(found) == 3 else ['', '', '']


def asked_python(python: str, option: str) -> list[str]:
    """The same of one that the user asks for, and has to fit."""
    found = describe_python(python)
    if found[0] not in PYTHONS:
        reason = f'is Python {found[0]}' if found[0] else 'does not run'
        die(f'{option}{python} {reason}: give one of Python 3.10 to 3.13')
    return found


class Environment:
    """A virtual environment, and what is recorded of it."""

    def __init__(self, options: argparse.Namespace):
        self.tests = options.script == 'run_tests.sh'
        self.own, self.stack, self.mmcv = not options.active, options.stack, STACKS[options.stack]
        self.asked = os.environ.get('PYTHON')
        self.folder = ROOT / ('.venv' if self.stack == 'openmmlab' else f'.venv-{self.stack}')
        self.python = str(self.folder / 'bin' / 'python')
        if options.active:
            active = os.environ.get('VIRTUAL_ENV') or os.environ.get('CONDA_PREFIX')
            python = self.asked or (active and f'{active}/bin/python')
            if not python:
                die('--active: no environment is active: activate one, or leave the option out')
            _, self.python, folder = asked_python(python, '--active: ')
            self.folder = Path(folder)
        self.state = self.folder / 'mmdet_centernet2'
        self.logs, self.mark = self.state / 'logs', self.state / 'cpu_only'
        self.records = [self.state / f'state-{name}.json' for name in ('runtime', 'tests')]

    def lock(self) -> None:
        """One setup at a time; the lock ends with this process or its exec."""
        for folder in (self.logs, CACHE):
            folder.mkdir(parents=True, exist_ok=True)
        self.lock_file = open(self.state / 'setup.lock', 'w')
        try:
            fcntl.flock(self.lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'another setup is running in {self.folder}; waiting for it')
            fcntl.flock(self.lock_file, fcntl.LOCK_EX)

    def go_inside(self) -> None:
        """Go on in the environment; make it before, if there is none."""
        if self.own:
            asked = asked_python(self.asked, 'PYTHON=') if self.asked else []
            if not os.path.lexists(self.python):
                self.make(asked)
            found, _, prefix = describe_python(self.python)
            if found not in (asked[:1] or PYTHONS) or not os.path.samefile(prefix, self.folder):
                die(
                    f'{self.folder} is broken or of another Python ({found or "none"}) than asked '
                    f'for: remove it (rm -rf {self.folder}) and run this again'
                )
        if not os.path.samefile(sys.prefix, self.folder):
            os.execv(self.python, [self.python, __file__, *sys.argv[1:]])

    def make(self, asked: list[str]) -> None:
        """Make it with venv or, where Debian left that out, with uv."""
        names = ['python3', *(f'python{number}' for number in reversed(PYTHONS))]
        pythons = [asked] if asked else [describe_python(shutil.which(name)) for name in names]
        fitting = [path for number, path, _ in pythons if number in PYTHONS]
        if not fitting:
            die(
                f'Python 3.10 to 3.13 is needed, but python3 is {pythons[0][0] or "missing"}: '
                'install one (Debian 12: apt install python3 python3-pip) or name it: '
                f'PYTHON=/path/to/python3.12 bash tools/{sys.argv[1]}'
            )
        python = fitting[0]
        self.lock()
        if os.path.lexists(self.python):
            return  # made by another process while this one waited
        say(f'Setting up {self.folder} with {python} (logs: {self.logs})')
        command = [python, '-m', 'venv', self.folder]
        if not output_of(python, '-c', 'import ensurepip, venv; print(1)'):
            uv = self.find_uv(python) or die(f'{python} has no venv: apt install python3-venv')
            command = [uv, 'venv', '--seed', '--allow-existing', '--python', python, self.folder]
        step = Step('virtual environment', self.logs / 'venv.log', command)
        step.finish()
        # The host may be a virtual environment itself.
        folders = output_of(python, '-c', HOST_TORCH)
        if folders:
            say(f'      using the torch of {python}')
            site = next(self.folder.glob('lib/python3*/site-packages'))
            (site / 'host_torch.pth').write_text(folders + '\n')

    def find_uv(self, python: str) -> str | None:
        """uv from PATH, or where a Python's pip puts it for us."""
        folder = self.state / f'uv-{pinned("uv")}'
        if not shutil.which('uv') and not folder.is_dir():
            options = f'-m pip --disable-pip-version-check install --no-deps --target {folder}'
            command = [python, *options.split(' '), f'uv=={pinned("uv")}']
            Step('uv', self.logs / 'uv.log', command).succeeds()
        return shutil.which('uv') or shutil.which('uv', path=str(folder / 'bin'))

    def current(self) -> dict:
        """What decides whether the environment still is what was set up."""
        digest = hashlib.sha256()
        here = Path(__file__).parent
        for path in sorted([*ROOT.glob('setup.*'), *LISTS.glob('*.txt'), *here.glob('*.py')]):
            digest.update(path.read_bytes())
        package = installed('mmdet_centernet2') and distribution('mmdet_centernet2')
        folders = [path for path in sys.path if os.path.isdir(path)]
        packages = {name for folder in folders for name in os.listdir(folder) if '-info' in name}
        # nvcc, where CUDA operators are missing and wanted
        asked = os.environ.get('TORCH_CUDA_ARCH_LIST') or os.environ.get('FORCE_CUDA') == '1'
        wanted = self.mark.exists() and (asked or gpu_in_sight())
        return {
            'files': digest.hexdigest(),
            'python': sys.version,
            'clone': package and package.read_text('direct_url.json'),
            'nvcc': find_nvcc() if wanted else None,
            'packages': sorted(packages),
        }

    def up_to_date(self) -> bool:
        try:
            old = json.loads(self.records[self.tests].read_text())
        except (OSError, ValueError):
            return False
        new = self.current()
        # More packages do no harm, and without nvcc another setup brings nothing.
        kept = set(old.pop('packages')) <= set(new.pop('packages'))
        return kept and new.pop('nvcc') in (None, old.pop('nvcc')) and new == old

    def uv_command(self) -> list:
        """uv with pip's settings; empty where only pip will do."""
        settings = {}
        lines = output_of(self.python, '-m', 'pip', 'config', 'list').splitlines()
        for section in ('global.', 'install.', ':env:.'):  # the last one wins
            for name, value in (line.split('=', 1) for line in lines):
                if name.startswith(section):
                    settings[name[len(section) :]] = ast.literal_eval(value)
        # uv does not see the packages of a host, nor all that conda installs.
        host = list(self.folder.glob('lib/python3*/site-packages/host_torch.pth'))
        unknown = set(settings) - {*UV_OPTIONS, *IGNORED}
        uv = not host and not unknown and self.own and self.find_uv(self.python)
        if not uv:
            return []
        if 'cert' in settings:
            os.environ.setdefault('SSL_CERT_FILE', settings['cert'])
        command = [uv, 'pip', 'install', '--python', self.python]
        command += ['--compile-bytecode', '--index-strategy', 'unsafe-best-match']  # as pip
        for name in UV_OPTIONS:
            for value in settings.get(name, '').split():
                command += [f'--{name}', value]
        return command + ['--no-index'] * (settings.get('no-index') in ('1', 'true', 'yes', 'on'))

    def install(self, label: str, *arguments: str | Path) -> None:
        """With uv, or with pip where uv cannot."""
        started = time.monotonic()
        say(label)
        pip = [self.python, '-m', 'pip', '--disable-pip-version-check', '--no-input', 'install']
        for command in filter(None, [self.uv, pip]):
            command = [*command, '-c', self.state / 'constraints.txt', *arguments]
            step = Step(label, self.logs / f'{label.split()[0]}.log', command)
            if step.succeeds():
                return say(f'      done in {minutes(time.monotonic() - started)}')
            self.uv = []
        step.explain()

    def install_everything(self) -> None:
        for name in ('PIP_USER', 'PIP_TARGET', 'PIP_PREFIX'):
            os.environ.pop(name, None)  # would lead pip out of the environment
        if not find_spec('pip') and not output_of(self.python, '-m', 'ensurepip'):
            die(f'{self.folder} has no pip: install it there, or remove {self.folder}')
        self.require_compiler()
        pins = (LISTS / 'constraints.txt').read_text()
        if installed('torch'):  # stays
            pins = re.sub('(?m)^torch==.*', '', pins)
        (self.state / 'constraints.txt').write_text(pins)
        libraries = (LISTS / 'runtime.txt').read_text()
        if installed('opencv-python') and output_of(self.python, '-c', 'import cv2; print(1)'):
            libraries = libraries.replace('opencv-python-headless', '')
        (self.state / 'libraries.txt').write_text(libraries)
        self.uv = self.uv_command()
        self.install('torch and what mmcv is built with', TORCH, '-r', LISTS / 'build.txt')
        compiler = self.start_mmcv()
        more, bare = FOR_TESTS if self.tests else ((), ())
        lists = [f'-r{LISTS / name}.txt' for name in (*more, self.stack, *bare)]
        self.install('libraries', '-r', self.state / 'libraries.txt', *lists[: len(more)])
        self.install('mmengine and mmdet', '--no-deps', *lists[len(more) :])
        self.finish_mmcv(compiler)
        editable = ['--no-deps', '--no-build-isolation', '-e', ROOT]
        self.install('mmdet_centernet2 from this clone', *editable)
        code = 'import mmdet_centernet2'
        step = Step(code, self.logs / 'import.log', [self.python, '-c', code])
        step.finish()
        record = json.dumps(self.current(), indent=2)
        for path in self.records[: self.tests + 1]:
            path.write_text(record)

    def require_compiler(self) -> None:
        """Before anything large is fetched, see that mmcv can be had."""
        missing = []
        if not shutil.which(os.environ.get('CXX', 'g++')):
            missing.append('a C++ compiler (apt install g++)')
        if not Path(sysconfig.get_path('include'), 'Python.h').exists():
            missing.append("Python's C headers (apt install python3-dev)")
        name = f'{self.mmcv}{pinned(self.mmcv)}-*-cp{sys.version_info[0]}{sys.version_info[1]}-*'
        if missing and not installed(self.mmcv) and not list(CACHE.glob(f'wheels/{name}/*.whl')):
            what = f'{self.mmcv} {pinned(self.mmcv)}'
            die(f'{what} has to be compiled, which needs {" and ".join(missing)}')

    def start_mmcv(self) -> Step:
        """Find or compile a wheel, beside the rest."""
        command = [self.python, ROOT / 'tools' / 'env' / 'build_mmcv.py', self.mmcv]
        command += [pinned(self.mmcv), CACHE, self.state / 'mmcv.json', find_nvcc() or '']
        path = f'{Path(self.python).parent}{os.pathsep}{os.environ["PATH"]}'
        jobs = os.environ.get('MAX_JOBS') or str(parallel_jobs())
        log = self.logs / 'build.log'
        say(
            f'{self.mmcv} {pinned(self.mmcv)} is compiled meanwhile, unless it is kept (log: {log})'
        )
        return Step(self.mmcv, log, command, MAX_JOBS=jobs, PATH=path)

    def finish_mmcv(self, compiler: Step) -> None:
        """Install what the compiler made, and mark what is for the CPU only."""
        compiler.finish()
        made = json.loads((self.state / 'mmcv.json').read_text())
        label = f'{self.mmcv} {made["why"]}'
        if made['wheel']:
            self.install(label, '--no-deps', '--force-reinstall', made['wheel'])
        check = Step(label, self.logs / 'check.log', [self.python, '-c', CHECK_MMCV])
        if not check.succeeds():
            check.explain(f'does not work: remove {made["wheel"]} and run this again')
        self.mark.unlink() if self.mark.exists() else None
        if made['cuda'] and 'not available' in check.log.read_text():
            self.mark.write_text(
                f'{made["why"]}; to use a GPU, run this on a machine that has one and nvcc of '
                f'CUDA {made["cuda"]} (on PATH or in CUDA_HOME)'
            )

    def run(self, arguments: list[str]) -> NoReturn:
        """Become the program that the script is for."""
        if self.mark.exists() and gpu_in_sight():
            say(f'The GPU is not used: mmcv was built {self.mark.read_text()}.')
            os.environ['CUDA_VISIBLE_DEVICES'] = ''
        os.environ['PATH'] = f'{Path(self.python).parent}{os.pathsep}{os.environ["PATH"]}'
        os.chdir(ROOT)
        command = ['tools/quickstart.py']
        if self.tests:
            stack = re.findall(r'(?m)^\S*mm\S+', (LISTS / f'{self.stack}.txt').read_text())
            names = ('torch', self.mmcv, *stack, 'numpy', 'opencv-python-headless')
            say('Python', sys.version.split()[0], *(f'{name} {installed(name)}' for name in names))
            # Scratch folders of the tests stay in the environment, too.
            os.environ['PYTEST_DEBUG_TEMPROOT'] = str(self.state / 'pytest')
            (self.state / 'pytest').mkdir(exist_ok=True)
            # The processes share the cores; threads of their own would get in the way.
            os.environ.setdefault('OMP_NUM_THREADS', '1')
            command = ['-m', 'pytest', '-q', '--durations=10']
            if 'no:xdist' not in ' '.join(arguments):
                command += ['-n', str(parallel_jobs()), '--dist', 'worksteal']
        os.execv(self.python, [self.python, *command, *arguments])


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Our options; everything else is for the program that is run."""
    own, rest = sys.argv[2:], []
    if '--' in own:
        own, rest = own[: own.index('--')], own[own.index('--') + 1 :]
    parser = argparse.ArgumentParser(
        prog=f'bash tools/{sys.argv[1]}',
        usage='%(prog)s [--active] [--setup-only] [--stack NAME] [[--] ARGUMENT...]',
        description='Other arguments go to the program that is run.',
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.set_defaults(script=sys.argv[1])
    parser.add_argument('--active', action='store_true', help='work in the active environment')
    parser.add_argument('--setup-only', action='store_true', help='stop after the setup')
    choices = dict(choices=STACKS, default='openmmlab', help='whose mmengine, mmcv and mmdet')
    parser.add_argument('--stack', **choices)
    options, unknown = parser.parse_known_args(own)
    return options, unknown + rest


def main() -> None:
    options, arguments = parse()
    for name in ('setup.py', 'setup.cfg', 'requirements/constraints.txt'):
        if not (ROOT / name).exists():
            die(f'{ROOT} lacks {name}: it is not a whole clone, run git clone again')
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    # matplotlib would make a folder of its own outside the cache.
    if not Path.home().joinpath('.config', 'matplotlib').is_dir():
        os.environ.setdefault('MPLCONFIGDIR', str(CACHE / 'matplotlib'))
    try:
        environment = Environment(options)
        environment.go_inside()
        if not environment.up_to_date():
            environment.lock()
        if environment.up_to_date():
            say(f'Environment {environment.folder} is up to date.')
        else:
            environment.install_everything()
            took = minutes(time.monotonic() - started)
            say(f'Environment {environment.folder} is ready after {took}.')
    except KeyboardInterrupt:
        die('stopped; run it again to go on')
    except PermissionError as error:
        die(f'{error}: make it yours (chown), or set XDG_CACHE_HOME for another cache folder')
    finally:
        Step.end_all()
    if not options.setup_only:
        environment.run(arguments)


if __name__ == '__main__':
    main()
