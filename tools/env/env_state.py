"""Tell in a moment whether an environment still is what was set up.

``python env_state.py write FILE PROFILE`` records it, ``check FILE PROFILE``
compares (exit status 1, and why, when something changed). Nothing large is
imported, so that a second run gets to work at once.
"""

import hashlib
import json
import os
import re
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = ('setup.py', 'setup.cfg', 'pyproject.toml', 'requirements/*.txt', 'tools/env/*')
LISTS = {
    'runtime': ('build', 'runtime', 'openmmlab'),
    'tests': ('build', 'runtime', 'openmmlab', 'deploy', 'mmdeploy', 'eval', 'tests'),
}
MODULES = (
    'torch',
    'numpy',
    'cv2',
    'mmcv',
    'mmengine',
    'mmdet',
    'pycocotools',
    'matplotlib',
    'scipy',
    'pkg_resources',
)
FRAMEWORKS = ['torch', 'mmcv', 'mmdet_centernet2', 'opencv-python']


def digest_of_files() -> str:
    """One hash of every file that decides what is installed."""
    digest = hashlib.sha256()
    paths = {path for glob in FILES for path in ROOT.glob(glob)}
    for path in sorted(path for path in paths if path.is_file()):
        digest.update(path.name.encode() + b'\0' + path.read_bytes())
    return digest.hexdigest()


def listed_packages(profile: str) -> list:
    """Names of the packages that the profile's requirement lists name."""
    names = list(FRAMEWORKS)
    for name in LISTS[profile]:
        text = (ROOT / 'requirements' / f'{name}.txt').read_text()
        names += re.findall(r'^[A-Za-z][\w.-]*', text, flags=re.MULTILINE)
    return names


def installed(name: str):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def folder_of(module: str):
    """Where a top-level module lies; it is not imported."""
    spec = find_spec(module)
    return spec and spec.origin and os.path.dirname(spec.origin)


def has_compiled_ops() -> bool:
    folder = folder_of('mmcv')
    return bool(folder) and any(
        os.path.exists(os.path.join(folder, f'_ext{suffix}')) for suffix in EXTENSION_SUFFIXES
    )


def current_state(profile: str) -> dict:
    return {
        'profile': profile,
        'python': sys.version,
        'files': digest_of_files(),
        'packages': {name: installed(name) for name in listed_packages(profile)},
        'mmcv has compiled operators': has_compiled_ops(),
        'mmdet_centernet2 lies in': folder_of('mmdet_centernet2'),
        'missing modules': [name for name in MODULES if not folder_of(name)],
        # Only where CUDA operators are wanted, and the last setup made none.
        'nvcc': os.environ.get('NVCC'),
    }


def differences(old: dict, new: dict) -> list:
    # A machine without nvcc has no use for another setup.
    return [
        f'{key}: {old.get(key)!r} became {new[key]!r}'
        for key in new
        if old.get(key) != new[key] and (key != 'nvcc' or new[key])
    ]


def main(action: str, file: str, profile: str) -> int:
    path = Path(file)
    state = current_state(profile)
    if action == 'write':
        path.write_text(json.dumps(state, indent=2) + '\n')
        return 0
    try:
        old = json.loads(path.read_text())
    except (OSError, ValueError):
        print('never set up, or not to the end')
        return 1
    changes = differences(old, state)
    print(*changes, sep='\n')
    return int(bool(changes))


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
