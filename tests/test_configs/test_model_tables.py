"""Metafiles, READMEs and configs say the same."""

import re
import runpy
from pathlib import Path

import pytest
import yaml
from complexity import Complexity, complexity
from mmengine.config import Config
from model_table import Model, read_models, set_costs, set_table, table_of

from tests.paths import CONFIGS, ROOT
from tests.test_configs.recipes import FOLDERS, RECIPES
from tests.test_models.test_golden import CONFIG_OF, SAME_NETWORK

#: A zoo row of the original that has no config there.
ZOO_ROW = 'CenterNet2_DLA-BiFPN-P5_640_24x_ST'
METAFILES = [CONFIGS / folder / 'metafile.yml' for folder in FOLDERS]
MODELS = [model for path in METAFILES for model in read_models(path)]


def _key(model: Model) -> str:
    """The config as other tests call it."""
    return model.config.removeprefix('configs/')


def test_every_config_of_the_zoo_has_its_row():
    assert sorted(map(_key, MODELS)) == sorted(RECIPES)
    for model in MODELS:
        assert (ROOT / model.config).is_file()
        assert model.name == Path(model.config).stem


def test_original_names():
    for model in MODELS:
        if model.original != ZOO_ROW:
            assert model.original == RECIPES[_key(model)].original


def test_parity_is_claimed_only_where_it_is_tested():
    for model in MODELS:
        assert model.parity.startswith('exact')
        if _key(model) in SAME_NETWORK:
            assert model.parity.startswith('exact: the network of the ')
        else:
            assert _key(model) in CONFIG_OF.values()


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model.name)
def test_parameters_and_flops_are_measured(model):
    assert complexity(Config.fromfile(ROOT / model.config)) == model.cost


@pytest.mark.parametrize('folder', FOLDERS)
def test_readme_has_the_metafile_s_table(folder):
    readme = (CONFIGS / folder / 'README.md').read_text()
    table = table_of(read_models(CONFIGS / folder / 'metafile.yml'))
    assert set_table(readme, table) == readme


@pytest.mark.parametrize('path', METAFILES, ids=lambda path: path.parent.name)
def test_metafile_is_what_mmdet_s_tools_read(path):
    content = yaml.safe_load(path.read_text())
    (collection,) = content['Collections']
    assert (ROOT / collection['README']).is_file()
    for model in content['Models']:
        assert model['In Collection'] == collection['Name']
        for result in model['Results']:
            assert result['Reported By'] == "the original's authors"
            assert result['Task'] == 'Object Detection'


def test_model_index_imports_every_metafile():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert sorted(index['Import']) == sorted(
        str(path.relative_to(ROOT)) for path in CONFIGS.rglob('metafile.yml')
    )


@pytest.mark.parametrize('folder', FOLDERS)
def test_no_link_or_path_is_dead(folder):
    readme = CONFIGS / folder / 'README.md'
    text = readme.read_text()
    links = re.findall(r'\]\(([^)#]+)(?:#[^)]*)?\)', text)
    local = [link for link in links if not link.startswith('http')]
    assert local
    for link in local:
        assert (readme.parent / link).exists(), link
    for path in re.findall(r'(?:configs|tests|tools)/[\w./+-]+\.\w+', text):
        assert (ROOT / path).is_file(), path


def test_figures_are_put_in_their_places():
    """Into a metafile whose order and comments stay; into a README."""
    path = METAFILES[0]
    text = path.read_text()
    models = read_models(path)
    doubled = {m.name: m.cost._replace(parameters=2 * m.cost.parameters) for m in models}
    changed = set_costs(text, doubled)
    assert changed != text
    assert set_costs(changed, {m.name: m.cost for m in models}) == text
    assert changed.splitlines()[0] == text.splitlines()[0]
    assert [m['Metadata']['Parameters'] for m in yaml.safe_load(changed)['Models']] == [
        2 * m.cost.parameters for m in models
    ]
    with pytest.raises(ValueError, match='needs one'):
        set_table('no place here', 'table')


def test_the_tool_writes_what_it_measures(tmp_path, capsys):
    """Zeros become the figures that are committed."""
    folder = CONFIGS / 'centernet'
    table = table_of(read_models(folder / 'metafile.yml'))
    text = (folder / 'metafile.yml').read_text()
    empty = {m.name: Complexity(0, 0, (0, 0)) for m in read_models(folder / 'metafile.yml')}
    (tmp_path / 'metafile.yml').write_text(set_costs(text, empty))
    readme = (folder / 'README.md').read_text()
    (tmp_path / 'README.md').write_text(set_table(readme, 'nothing yet'))

    tool = runpy.run_path(str(ROOT / 'tools/analysis_tools/model_table.py'))
    tool['measure'](tmp_path, write=True)
    assert table in capsys.readouterr().out
    assert (tmp_path / 'metafile.yml').read_text() == text
    assert (tmp_path / 'README.md').read_text() == readme
