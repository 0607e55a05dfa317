"""Find or compile an mmcv for the torch that is there.

``build_mmcv.py DISTRIBUTION VERSION CACHE RESULT NVCC``; RESULT is a JSON file with
the path of a wheel, if one has to be installed, what it was compiled for, and the
CUDA version of torch where operators for it are missing.
Wheels stay in the cache; a build that was stopped goes on where it was. mmcv's
sources are as they were released, but for setup.py.
"""

import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import torch


def fetch_source(distribution: str, version: str, folder: Path) -> Path:
    """Have pip unpack the source.

    Before pip hands it over, it runs setup.py, which fails with Python 3.13
    (see ``adapt_setup``); so take what lies in its folder for scratch files.
    """
    source, scratch = folder / 'source', folder / 'pip'
    if not source.is_dir():
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        command = f'-m pip --disable-pip-version-check download --no-deps --no-clean -d {scratch}'
        command += f' --no-build-isolation --no-binary {distribution} {distribution}=={version}'
        subprocess.run([sys.executable, *command.split()], env={**os.environ, 'TMPDIR': scratch})
        for file in scratch.glob('pip-*/*mmcv*/setup.py'):
            file.parent.rename(source)
        shutil.rmtree(scratch)
    if not source.is_dir():
        sys.exit(f'pip did not unpack {distribution}=={version}')
    return source


def adapt_setup(file: Path) -> None:
    """For torch 2.14 and newer, which wants C++20, and for Python 3.13.

    There, exec() in a function leaves nothing in locals().
    """
    text = file.read_text()
    if tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 14):
        text = text.replace('-std=c++17', '-std=c++20')
    text = text.replace("version_file, 'exec'))\n", "version_file, 'exec'), globals())\n")
    text = text.replace("return locals()['__version__']", 'return __version__')
    file.write_text(text)


def precompile_torch(header: Path, standard: str) -> None:
    """Make ``HEADER.gch`` with the flags that setuptools and torch compile with.

    gcc ignores it where the flags differ after all.
    """
    from torch.utils.cpp_extension import include_paths

    made, partial = Path(f'{header}.gch'), Path(f'{header}.part')
    if made.exists():
        return
    header.write_text('#include <torch/types.h>\n')
    python = sysconfig.get_config_vars()
    flags = f'{os.environ.get("CFLAGS", python["CFLAGS"])} {os.environ["CPPFLAGS"]}'
    command = shlex.split(f'{os.environ.get("CXX", "c++")} {flags} {python["CCSHARED"]}')
    command += [f'-I{path}' for path in (*include_paths(), sysconfig.get_path('include'))]
    command += [standard, '-DTORCH_API_INCLUDE_EXTENSION_H', '-DTORCH_EXTENSION_NAME=_ext']
    subprocess.run([*command, '-x', 'c++-header', header, '-o', partial], check=True)
    partial.rename(made)
    # Some systems cannot load what they made.
    check = ['-Werror=invalid-pch', '-include', header, '-x', 'c++', '-c', os.devnull]
    subprocess.run([*command, *check, '-o', os.devnull], check=True)


def set_fast_flags(folder: Path, standard: str) -> None:
    """No debug information and, with gcc, torch's headers precompiled.

    The object code is the same, in a quarter of the time.
    """
    os.environ['CPPFLAGS'] = os.environ.get('CPPFLAGS', '') + ' -g0 -Winvalid-pch'
    compiler, header = os.environ.get('CXX', 'c++'), folder / 'torch_types.h'
    if 'Free Software Foundation' not in said_by(compiler, '--version'):
        return
    try:
        print('compiling the headers of torch', flush=True)
        precompile_torch(header, standard)
        os.environ['CPPFLAGS'] += f' -include {shlex.quote(str(header))}'
    except subprocess.CalledProcessError as error:
        print(error)
        Path(f'{header}.gch').unlink(missing_ok=True)


def said_by(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def find_kind(nvcc: str) -> tuple[str, str]:
    """``cpu``, or CUDA's version and the GPUs to compile for, and why."""
    cuda, architectures = torch.version.cuda, os.environ.get('TORCH_CUDA_ARCH_LIST')
    if not cuda:
        return 'cpu', f'for the CPU (torch {torch.__version__} has no CUDA)'
    found = nvcc and re.search(r'release ([\d.]+)', said_by(nvcc, '--version'))
    toolkit = found.group(1) if found else 'none'
    if toolkit.split('.')[0] != cuda.split('.')[0]:
        return 'cpu', f'for the CPU, as nvcc of CUDA {cuda} is not there (found {toolkit})'
    if not architectures and torch.cuda.is_available():
        devices = range(torch.cuda.device_count())
        seen = {torch.cuda.get_device_capability(device) for device in devices}
        architectures = ' '.join(f'{major}.{minor}' for major, minor in sorted(seen))
    if architectures:
        return f'cuda{cuda}-{architectures}', f'with CUDA {toolkit} for {architectures}'
    if os.environ.get('FORCE_CUDA') == '1':
        sys.exit(
            'FORCE_CUDA=1, but torch sees no GPU here to compile for: name the architecture of '
            'yours, e.g. TORCH_CUDA_ARCH_LIST=8.0'
        )
    return 'cpu', 'for the CPU, as torch saw no GPU'


def installed_kind(distribution: str, version: str) -> str | None:
    """``cpu`` or ``cuda`` of such an mmcv whose operators work with this torch."""
    try:
        from mmcv.ops import get_compiling_cuda_version

        if metadata.version(distribution).split('.')[:2] == version.split('.')[:2]:
            return 'cpu' if 'not available' in get_compiling_cuda_version() else 'cuda'
    except Exception as error:  # whatever a library built for another torch raises
        print(error, flush=True)
    return None


def build(distribution: str, version: str, wheels: Path) -> None:
    """Compile a wheel, unless one is there or another setup makes it."""
    folder = wheels.parents[1] / 'build' / wheels.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f'{folder}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if list(wheels.glob('*.whl')):
            return
        folder.mkdir(exist_ok=True)
        source = fetch_source(distribution, version, folder)
        adapt_setup(source / 'setup.py')
        standard = re.search(r'-std=c\+\+(17|20)', (source / 'setup.py').read_text()).group()
        set_fast_flags(folder, standard)
        wheels.mkdir(parents=True, exist_ok=True)
        code = 'import sys; from setuptools import build_meta as b; b.build_wheel(sys.argv[1])'
        subprocess.run([sys.executable, '-c', code, str(wheels)], cwd=source, check=True)
        shutil.rmtree(folder)


def main(distribution: str, version: str, cache: str, result: str, nvcc: str) -> None:
    platform = re.sub('[-.]', '_', sysconfig.get_platform())
    tag = f'{sys.implementation.cache_tag.replace("cpython-", "cp")}-{platform}'
    there, wheel = installed_kind(distribution, version), None
    for kind, why in (find_kind(nvcc), ('cpu', 'for the CPU, as CUDA operators do not compile')):
        if there in ('cuda', kind):
            kind = there
            break
        key = f'{distribution}{version}-torch{torch.__version__}-{kind}-{tag}'
        wheels = Path(cache, 'wheels', re.sub(r'[^\w.+-]', '_', key))
        os.environ.update(MMCV_WITH_OPS='1', FORCE_CUDA=str(int(kind != 'cpu')))
        if kind == 'cpu':
            os.environ['CUDA_VISIBLE_DEVICES'] = ''
        else:
            os.environ['CUDA_HOME'] = str(Path(nvcc).parents[1])
        print(f'compiling {why}, {os.environ["MAX_JOBS"]} at a time', flush=True)
        try:
            build(distribution, version, wheels)
            wheel = str(next(wheels.glob('*.whl')))
            break
        except subprocess.CalledProcessError as error:
            if kind == 'cpu':
                sys.exit(f'mmcv does not compile: {error}')
    cuda = torch.version.cuda if kind == 'cpu' else None
    Path(result).write_text(json.dumps(dict(wheel=wheel, why=why, cuda=cuda)))


if __name__ == '__main__':
    main(*sys.argv[1:])
