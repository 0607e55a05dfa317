"""Packaging steps that ``setup.cfg`` cannot express.

Like mmdet, the package carries its configs and tools in ``.mim``, so that
``_base_ = 'mmdet_centernet2::...'`` works from any folder. Both kinds of
install also get a start-up module that tells mmengine of the package.
"""
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

PACKAGE = 'mmdet_centernet2'
ROOT = Path(__file__).resolve().parent
MIM_PARTS = ('configs', 'tools', 'model-index.yml')
# These set up a clone; an installed package has no use for them.
CLONE_ONLY = ('env', 'quickstart.sh', 'run_tests.sh')
STARTUP = '_mmdet_centernet2_bases'


def copy_part(source: Path, target: Path) -> None:
    """Copy a file or a folder, without caches and clone-only scripts."""
    if source.is_file():
        shutil.copy2(source, target)
        return
    ignored = shutil.ignore_patterns('__pycache__', '*.pyc', *CLONE_ONLY)
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


def add_startup(folder: Path) -> None:
    """Put the start-up module where Python's ``site`` looks for it."""
    source = ROOT / PACKAGE / 'utils' / 'mmengine_bases.py'
    shutil.copy2(source, folder / f'{STARTUP}.py')
    line = f'import {STARTUP}; {STARTUP}.enable()\n'
    (folder / f'{STARTUP}.pth').write_text(line)


def name_source_folder(top_level: Path) -> None:
    """Tell mmengine where the package of an editable install really is.

    ``mmengine.utils.get_installed_path`` joins the first line of this file with
    the folder of the metadata, where no package lies. An absolute path is what
    survives the join.
    """
    lines = [str(ROOT / PACKAGE), *top_level.read_text().split()]
    top_level.write_text('\n'.join(lines) + '\n')


class BuildWithConfigs(build_py):
    """``build_py`` that also fills ``.mim`` and adds the start-up module."""

    def run(self):
        if self.editable_mode:
            super().run()
            fill_mim(ROOT / PACKAGE / '.mim', linked=True)
            return
        build_lib = Path(self.build_lib)
        # A module deleted since the last build must not come back.
        shutil.rmtree(build_lib / PACKAGE, ignore_errors=True)
        super().run()
        fill_mim(build_lib / PACKAGE / '.mim', linked=False)
        add_startup(build_lib)


class EditableWithStartup(editable_wheel):
    """``editable_wheel`` whose wheel also carries the start-up module."""

    def run(self):
        super().run()
        wheels = Path(self.dist_dir).glob(f'{PACKAGE}-*.whl')
        self.extend(max(wheels, key=lambda path: path.stat().st_mtime))

    @staticmethod
    def extend(wheel: Path) -> None:
        """Rewrite a wheel with the extra files and a fitting record."""
        from wheel.wheelfile import WheelFile
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(root)
            next(root.glob('*.dist-info/RECORD')).unlink()
            name_source_folder(next(root.glob('*.dist-info/top_level.txt')))
            add_startup(root)
            with WheelFile(str(wheel), 'w') as archive:
                archive.write_files(folder)


setup(cmdclass=dict(
    build_py=BuildWithConfigs, editable_wheel=EditableWithStartup))
