"""Detect on any image or folder and draw the boxes.

With a file that ``tools/deploy.py`` wrote, torch and mmdet are not imported.
"""

import importlib.util
import sys
from argparse import ArgumentParser
from pathlib import Path

_RUNTIME = 'mmdet_centernet2_runtime'


def exported(arguments: list[str]) -> bool:
    """Whether a command line asks for another backend or names an .onnx file."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--backend')
    backend = parser.parse_known_args(arguments)[0].backend
    if backend is not None:
        return backend != 'pytorch'
    return any(word.endswith('.onnx') for word in arguments)


def load_runtime() -> None:
    """Import ``mmdet_centernet2.runtime`` as a package of its own.

    Importing the package around it would import torch and mmdet.
    """
    spec = importlib.util.find_spec('mmdet_centernet2')  # installed, or else in this clone
    clone = Path(__file__).resolve().parents[1] / 'mmdet_centernet2'
    folder = Path(spec.submodule_search_locations[0] if spec else clone) / 'runtime'
    spec = importlib.util.spec_from_file_location(
        _RUNTIME, folder / '__init__.py', submodule_search_locations=[str(folder)]
    )
    sys.modules[_RUNTIME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[_RUNTIME])


if __name__ == '__main__':
    if exported(sys.argv[1:]):
        load_runtime()
        importlib.import_module(f'{_RUNTIME}.demo').main()
    else:
        import mmdet_centernet2  # noqa: F401  registers the models
        from mmdet_centernet2.cli.image_demo import main

        main()
