"""Packaging steps that ``setup.cfg`` cannot express.

Like mmdet, the package carries its configs and tools in ``.mim``, so that
``_base_ = 'mmdet_centernet2::...'`` works from any folder.
"""

import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PACKAGE = 'mmdet_centernet2'
ROOT = Path(__file__).resolve().parent
MIM_PARTS = ('configs', 'tools', 'model-index.yml')
# These set up or measure a clone; an installed package has no use for them.
CLONE_ONLY = (
    'tools/env',
    'tools/quickstart',
    'tools/quickstart.py',
    'tools/quickstart.sh',
    'tools/run_tests.sh',
    'tools/analysis_tools/speed',
    'tools/analysis_tools/speed.py',
    'tools/dataset_converters/tree_tiles.py',
)


def copy_part(source: Path, target: Path) -> None:
    """Copy a file or a folder, without caches and clone-only scripts."""
    if source.is_file():
        shutil.copy2(source, target)
        return

    def ignored(folder: str, names: list[str]) -> list[str]:
        return [
            name
            for name in names
            if name == '__pycache__'
            or Path(folder, name).relative_to(ROOT).as_posix() in CLONE_ONLY
        ]

    shutil.copytree(source, target, ignore=ignored)


def fill_mim(folder: Path, linked: bool) -> None:
    """Give ``folder`` the configs, the tools and the model index.

    Args:
        folder: The ``.mim`` folder; what it held before is removed.
        linked: Link to the originals (copies where the system has no links),
            so that an editable install follows every edit.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for part in MIM_PARTS:
        source, target = ROOT / part, folder / part
        try:
            if not linked:
                raise OSError
            target.symlink_to(os.path.relpath(source, folder))
        except OSError:
            copy_part(source, target)


class BuildWithConfigs(build_py):
    """``build_py`` that also fills ``.mim``."""

    def run(self):
        folder = ROOT if self.editable_mode else Path(self.build_lib)
        if not self.editable_mode:
            # A module deleted since the last build must not come back.
            shutil.rmtree(folder / PACKAGE, ignore_errors=True)
        super().run()
        fill_mim(folder / PACKAGE / '.mim', linked=self.editable_mode)


setup(cmdclass=dict(build_py=BuildWithConfigs))
