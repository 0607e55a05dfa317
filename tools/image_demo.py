"""Detect on any image or folder and draw the boxes.

With a file that ``tools/deploy.py`` wrote, torch and mmdet are not imported.
"""

import importlib.util
import sys
from argparse import ArgumentParser
from pathlib import Path
from types import ModuleType

_RUNTIME = 'mmdet_centernet2_runtime'


def exported(arguments: list) -> bool:
    """Whether a command line names an exported model to run.

    Args:
        arguments: Without the program's name.

    Returns:
        True for ``--backend`` of another name than ``pytorch``, or
        without one for a model that ends in ``.onnx``.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--backend')
    backend = parser.parse_known_args(arguments)[0].backend
    if backend is not None:
        return backend != 'pytorch'
    return any(word.endswith('.onnx') for word in arguments)


def load_runtime() -> ModuleType:
    """Load ``mmdet_centernet2/runtime`` without what is around it.

    Importing the package itself would import torch and mmdet. It is found as
    an import would find it, or beside this file in a clone.

    Returns:
        The folder as a package of its own.
    """
    spec = importlib.util.find_spec('mmdet_centernet2')
    folders = (
        spec.submodule_search_locations
        if spec
        else [Path(__file__).resolve().parents[1] / 'mmdet_centernet2']
    )
    folder = Path(list(folders)[0]) / 'runtime'
    spec = importlib.util.spec_from_file_location(
        _RUNTIME, folder / '__init__.py', submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[_RUNTIME] = module
    spec.loader.exec_module(module)
    return module


if __name__ == '__main__':
    if exported(sys.argv[1:]):
        load_runtime()
        importlib.import_module(f'{_RUNTIME}.demo').main()
    else:
        import mmdet_centernet2  # noqa: F401  registers the models
        from mmdet_centernet2.cli.image_demo import main
        from mmdet_centernet2.cli.mmdet_tools import errors_as_exit

        with errors_as_exit():
            main()
