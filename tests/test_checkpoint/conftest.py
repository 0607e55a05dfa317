"""Configs of the package are read, and their models built, once for all tests here."""

from pathlib import Path

import pytest

from mmdet_centernet2.cli import convert
from tests.paths import CONFIGS


@pytest.fixture(scope='package', autouse=True)
def shipped_models_are_built_once():
    read, build = convert.load_config, convert.model_state
    configs, states = {}, {}

    def load_config(path):
        path = Path(path).resolve()
        if CONFIGS not in path.parents:
            return read(path)
        if path not in configs:
            configs[path] = read(path)
        return configs[path]

    def model_state(part, where):
        if str(part) not in states:
            states[str(part)] = build(part, where)
        return states[str(part)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, 'load_config', load_config)
        patch.setattr(convert, 'model_state', model_state)
        yield
