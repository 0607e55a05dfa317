"""Set up the environment of this clone, then run a program in it.

``setup_env.py SCRIPT ...``, for ``tools/quickstart.sh`` and
``tools/run_tests.sh``. Makes ``.venv`` from the Python that it is started with,
and goes on in there.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
LISTS = ROOT / 'requirements'
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'mmdet_centernet2')
TORCH = 'torch>=2.6'
# A stack has a list of its own; here, the distribution of its mmcv.
STACKS = {'openmmlab': 'mmcv', 'onedl': 'onedl-mmcv'}
# What the tests need beyond the rest; the second without their own lists.
FOR_TESTS = (('deploy', 'openvino', 'tests'), ('mmdeploy', 'sahi'))
# pip's settings that uv knows by the same name, and those that it need not know.
UV_OPTIONS = 'index-url extra-index-url find-links constraint trusted-host'.split()
IGNORED = """cert default-timeout disable-pip-version-check no-index no-input prefix progress-bar
retries root-user-action target timeout user""".split()
EPILOG = """Needs Python 3.10 to 3.13 with pip, gcc and g++; writes to this clone and your cache
folder only. The environment variables that count: docs/install.md."""
# What the log of a step that failed says, and what to do about it.
REMEDIES = {
    '(FORCE_CUDA=1, but .*)': '{}',
    'No space left|quota exceeded': 'the disk is full: free some space (about 3 GB are needed, '
    '10 GB with CUDA) and run this again',
    'Killed signal|compiler error: Killed|ninja: fatal: .*memory|MemoryError': 'out of memory: '
    'run it again with MAX_JOBS=1 in front',
    'NewConnectionError|name resolution|Network is unreachable|Connection (refused|reset|timed out)'
    '|ConnectTimeout|Read ?timed ?out|ProxyError|SSLError': 'the package index cannot be reached: '
    "check the network (or pip's index and proxy settings: pip config list) and run this again",
    r'No matching distribution found for ([^ ;\n]*)': 'pip found no version of {} for this Python '
    "and machine: check pip's index settings (pip config list)",
    r'Permission denied:? *(.*)': 'no permission to write {}: make it yours (chown)',
}
# Prints where a CUDA build of torch that will do is imported from.
HOST_TORCH = """
import os, sys, torch
if tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 6) and torch.version.cuda:
    print(*(os.path.abspath(path) for path in sys.path if path.endswith('-packages')), sep='\\n')
"""


def die(message: str) -> NoReturn:
    """End with the one line that says what is wrong."""
    print(f'{sys.argv[1]}: error: {message}', file=sys.stderr)
    sys.exit(1)


def say(*words: object) -> None:
    print(*words, flush=True)


def minutes(seconds: float) -> str:
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def output_of(*command: str | Path) -> str:
    """What a command prints; empty if it fails."""
    options = dict(stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    try:
        return subprocess.check_output(command, **options).strip()
    except (OSError, subprocess.CalledProcessError):
        return ''


class Step:
    """A command in a session of its own, its output in a log."""

    running: list[Step] = []

    def __init__(self, label: str, log: Path, command: list, **environment: str):
        self.label, self.log, self.started = label, log, time.monotonic()
        options = dict(stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True)
        options['env'] = {**os.environ, **environment}
        with log.open('wb') as file:
            self.process = subprocess.Popen(list(map(str, command)), stdout=file, **options)
        self.running.append(self)

    def progress(self) -> str:
        """How far the compiler is by ninja's count, else the last line of the log."""
        text = self.log.read_bytes()[-100_000:].decode(errors='replace').replace('\r', '\n')
        counts = re.findall(r'^\s*\[(\d+)/(\d+)\]', text, re.MULTILINE)
        if not counts:
            return ['', *text.split('\n')][-2].strip()
        done, files = map(int, counts[-1])
        left = (time.monotonic() - self.started) * (files - done) / done
        return f'{done} of {files} files compiled, about {minutes(left)} left'

    def succeeds(self) -> bool:
        """Show the progress until the command ends."""
        live, shown = sys.stdout.isatty(), 0.0
        while self.process.poll() is None:
            time.sleep(0.05)
            seconds = time.monotonic() - self.started
            if seconds - shown > (0.5 if live else 30):
                shown = seconds
                text = f'      {minutes(seconds)}  {self.progress()}'
                text = text[: shutil.get_terminal_size().columns - 1 if live else 110]
                print(f'\r\033[K{text}' if live else f'{text}\n', end='', flush=True)
        print('\r\033[K' if live else '', end='')
        self.running.remove(self)
        return self.process.returncode == 0

    def finish(self) -> None:
        """Wait for the command; end with an explanation if it fails."""
        self.succeeds() or self.explain()

    def explain(self, remedy: str = '') -> NoReturn:
        """End with the last lines of the log, and what to do about them."""
        text = self.log.read_text(errors='replace')
        for line in text.splitlines()[-12:]:
            print('      |', line[:200], file=sys.stderr)
        for pattern, known in REMEDIES.items():
            found = re.search(pattern, text, re.IGNORECASE)
            if found:
                die(f'{self.label}: {known.format(*found.groups()[-1:])}')
        die(f'{self.label}: {remedy or f"failed, the reason is in {self.log}"}')

    @classmethod
    def end_all(cls) -> None:
        """End what still runs, with its children."""
        for step in cls.running:
            os.killpg(step.process.pid, signal.SIGTERM)


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


class Environment:
    """A virtual environment, and what is recorded of it."""

    def __init__(self, options: argparse.Namespace):
        self.tests = options.script == 'run_tests.sh'
        self.own, self.stack, self.mmcv = not options.active, options.stack, STACKS[options.stack]
        self.mmcv_version = pinned(self.mmcv)
        self.folder = ROOT / ('.venv' if self.stack == 'openmmlab' else f'.venv-{self.stack}')
        self.python = str(self.folder / 'bin' / 'python')
        if options.active:
            active = (os.environ.get('VIRTUAL_ENV'), os.environ.get('CONDA_PREFIX'))
            if 'PYTHON' not in os.environ and sys.prefix not in active:
                die(f'--active: {sys.executable} is in no active environment: activate one')
            self.folder, self.python = Path(sys.prefix), sys.executable
        self.state = self.folder / 'mmdet_centernet2'
        self.logs, self.mark = self.state / 'logs', self.state / 'cpu_only'
        self.record = self.state / 'state.json'

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
        if not os.path.lexists(self.python):
            self.make()
        os.environ['PATH'] = f'{Path(self.python).parent}{os.pathsep}{os.environ["PATH"]}'
        prefix = str(self.folder)
        if sys.prefix == prefix:
            return
        code = 'import sys; print(sys.version_info[:2], sys.prefix)'
        found, mine = output_of(self.python, '-c', code), f'{sys.version_info[:2]} {prefix}'
        if prefix not in found or ('PYTHON' in os.environ and found != mine):
            die(
                f'{prefix} is broken or of another Python than asked for: remove it '
                f'(rm -rf {prefix}) and run this again'
            )
        os.execv(self.python, [self.python, __file__, *sys.argv[1:]])

    def make(self) -> None:
        """Make it with venv or, where Debian left that out, with uv."""
        self.lock()
        if os.path.lexists(self.python):
            return  # made by another process while this one waited
        say(f'Setting up {self.folder} with {sys.executable} (logs: {self.logs})')
        command = [sys.executable, '-m', 'venv', self.folder]
        if not find_spec('ensurepip'):
            uv = self.find_uv() or die(f'{sys.executable} has no venv: apt install python3-venv')
            command = [uv, 'venv', '--seed', '--allow-existing', '--python', sys.executable]
            command.append(self.folder)
        Step('virtual environment', self.logs / 'venv.log', command).finish()
        # The host may be a virtual environment itself.
        folders = output_of(sys.executable, '-c', HOST_TORCH)
        if folders:
            say(f'      using the torch of {sys.executable}')
            site = next(self.folder.glob('lib/python3*/site-packages'))
            (site / 'host_torch.pth').write_text(folders + '\n')

    def find_uv(self) -> str | None:
        """uv from PATH, or where pip puts it for us."""
        folder = self.state / f'uv-{pinned("uv")}'
        if not shutil.which('uv') and not folder.is_dir():
            options = f'-m pip --disable-pip-version-check install --no-deps --target {folder}'
            command = [sys.executable, *options.split(' '), f'uv=={pinned("uv")}']
            Step('uv', self.logs / 'uv.log', command).succeeds()
        return shutil.which('uv') or shutil.which('uv', path=str(folder / 'bin'))

    def current(self) -> dict:
        """What decides whether the environment still is what was set up."""
        parts = ROOT.glob('setup.*'), LISTS.glob('*.txt'), Path(__file__).parent.glob('*.py')
        files = b''.join(path.read_bytes() for path in sorted(itertools.chain(*parts)))
        package = installed('mmdet_centernet2') and distribution('mmdet_centernet2')
        folders = [Path(path).glob('*-info') for path in sys.path]
        packages = {path.name for path in itertools.chain(*folders)}
        # nvcc, where CUDA operators are missing and wanted
        asked = os.environ.get('TORCH_CUDA_ARCH_LIST') or os.environ.get('FORCE_CUDA') == '1'
        wanted = self.mark.exists() and (asked or gpu_in_sight())
        return {
            'files': hashlib.sha256(files).hexdigest(),
            'python': sys.version,
            'clone': package and package.read_text('direct_url.json'),
            'nvcc': find_nvcc() if wanted else None,
            'packages': sorted(packages),
            'tests': self.tests,
        }

    def up_to_date(self) -> bool:
        try:
            old = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return False
        new = self.current()
        # More packages do no harm, and without nvcc another setup brings nothing.
        kept = set(old.pop('packages')) <= set(new.pop('packages'))
        kept &= old.pop('tests') >= new.pop('tests')
        return kept and new.pop('nvcc') in (None, old.pop('nvcc')) and new == old

    def uv_command(self) -> list:
        """uv with pip's settings; empty where only pip will do."""
        settings = {}
        said = output_of(self.python, '-m', 'pip', 'config', 'list')
        for section in ('global', 'install', ':env:'):  # the last one wins
            found = re.findall(rf'(?m)^{section}\.([^=]+)=(.*)$', said)
            settings |= {name: ast.literal_eval(value) for name, value in found}
        # uv does not see the packages of a host, nor all that conda installs.
        host = list(self.folder.glob('lib/python3*/site-packages/host_torch.pth'))
        only_pip = host or not self.own or set(settings) - {*UV_OPTIONS, *IGNORED}
        uv = None if only_pip else self.find_uv()
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
        check = Step(code, self.logs / 'import.log', [self.python, '-c', code])
        check.succeeds() or check.explain(f'remove {CACHE / "wheels"} and run this again')
        self.record.write_text(json.dumps(self.current(), indent=2))

    def require_compiler(self) -> None:
        """Before anything large is fetched, see that mmcv can be had."""
        missing = []
        if not shutil.which(os.environ.get('CXX', 'g++')):
            missing.append('a C++ compiler (apt install g++)')
        if not Path(sysconfig.get_path('include'), 'Python.h').exists():
            missing.append("Python's C headers (apt install python3-dev)")
        python = 'cp{}{}'.format(*sys.version_info)
        kept = f'wheels/{self.mmcv}{self.mmcv_version}-*-{python}-*/*.whl'
        if missing and not installed(self.mmcv) and not list(CACHE.glob(kept)):
            what = f'{self.mmcv} {self.mmcv_version}'
            die(f'{what} has to be compiled, which needs {" and ".join(missing)}')

    def start_mmcv(self) -> Step:
        """Find or compile a wheel, beside the rest."""
        command = [self.python, ROOT / 'tools' / 'env' / 'build_mmcv.py', self.mmcv]
        command += [self.mmcv_version, CACHE, self.state / 'mmcv.json', find_nvcc() or '']
        jobs, log = os.environ.get('MAX_JOBS') or str(parallel_jobs()), self.logs / 'build.log'
        say(f'{self.mmcv} {self.mmcv_version} is compiled meanwhile, unless kept (log: {log})')
        return Step(self.mmcv, log, command, MAX_JOBS=jobs)

    def finish_mmcv(self, compiler: Step) -> None:
        """Install what the compiler made, and mark what is for the CPU only."""
        compiler.finish()
        made = json.loads((self.state / 'mmcv.json').read_text())
        if made['wheel']:
            self.install(
                f'{self.mmcv} {made["why"]}', '--no-deps', '--force-reinstall', made['wheel']
            )
        self.mark.unlink(missing_ok=True)
        if made['cuda']:
            self.mark.write_text(
                f'{made["why"]}; to use a GPU, run this on a machine that has one and nvcc of '
                f'CUDA {made["cuda"]} (on PATH or in CUDA_HOME)'
            )

    def run(self, arguments: list[str]) -> NoReturn:
        """Become the program that the script is for."""
        if self.mark.exists() and gpu_in_sight():
            say(f'The GPU is not used: mmcv was built {self.mark.read_text()}.')
            os.environ['CUDA_VISIBLE_DEVICES'] = ''
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
    parser.add_argument('--stack', choices=STACKS, default='openmmlab', help='whose mmdet')
    options, rest = parser.parse_known_args(sys.argv[2:])
    if '--' in rest:
        rest.remove('--')
    return options, rest


def main() -> None:
    options, arguments = parse()
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
