"""Print the versions of everything that decides how the tests turn out."""

import platform
from importlib.metadata import version

import torch

NAMES = (
    'torch',
    'mmengine',
    'mmcv',
    'mmdet',
    'numpy',
    'opencv-python-headless',
    'pycocotools',
    'setuptools',
)


def installed(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return 'not there'


def main() -> None:
    print('Python', platform.python_version(), 'on', platform.platform())
    print(*(f'{name} {installed(name)}' for name in NAMES), sep=', ')
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    print(f'{torch.get_num_threads()} CPU threads, {devices} GPUs')


if __name__ == '__main__':
    main()
