"""What every test starts from."""

import gc
import os
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from mmdet.utils import register_all_modules
from mmengine.visualization import Visualizer

import mmdet_centernet2  # noqa: F401  registers everything
from tests.paths import ROOT


@pytest.fixture(autouse=True, scope='session')
def _mmdet_scope() -> None:
    """Build from mmdet's registries by default, as its tools do."""
    register_all_modules(init_default_scope=True)


@pytest.fixture(autouse=True, scope='session')
def _plain_config_text() -> Iterator[None]:
    """mmengine formats the config five times for a run's logs.

    It takes half of the time of a small run, and changes line breaks only.
    Processes that tests start leave it out by tests/quick_processes.
    """
    here = mock.patch(
        'mmengine.config.config.FormatCode',
        lambda text, **kwargs: (text, True),
        create=True,  # onedl-mmengine imports it elsewhere
    )
    folders = [
        str(ROOT / 'tests/quick_processes'),
        *os.environ.get('PYTHONPATH', '').split(os.pathsep),
    ]
    with here, mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, folders))):
        yield


@pytest.fixture(autouse=True, scope='session')
def _few_threads() -> None:
    """More gain nothing with small models, and other tests run beside."""
    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True, scope='session')
def _libraries_stay() -> None:
    """Every data set collects garbage when it is built, among all that was imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_visualizers() -> None:
    """Two runs of one config name in the same second would share a visualizer.

    mmengine keeps them by that name, and the first one's folder may be gone.
    """
    classes = [Visualizer]
    for cls in classes:
        cls._instance_dict.clear()
        classes += cls.__subclasses__()


def pytest_terminal_summary(terminalreporter) -> None:
    """Say when the pages were not looked at."""
    skipped = terminalreporter.stats.get('skipped', [])
    count = sum('no Chromium' in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.write_line(
            f'{count} browser tests did not run: install Chromium (Debian: apt install chromium).'
        )
