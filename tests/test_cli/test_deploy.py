"""``tools/deploy.py`` from a checkpoint to a compared file."""

import pytest
import torch
from mmdet.registry import MODELS

from mmdet_centernet2.cli.deploy import main
from tests._tiny import tiny_config, write_dataset
from tests.paths import CONFIGS


@pytest.fixture(scope='module')
def arguments(tmp_path_factory):
    """Config, checkpoint and image of a tiny model."""
    folder = tmp_path_factory.mktemp('deploy')
    cfg = tiny_config(write_dataset(folder / 'data'))
    cfg.dump(folder / 'tiny.py')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'tiny.pth')
    image = sorted((folder / 'data/images').iterdir())[0]
    return [str(folder / 'tiny.py'), str(folder / 'tiny.pth'), str(image)]


@pytest.mark.slow
@pytest.mark.export
def test_exports_and_compares(arguments, tmp_path, capsys):
    deploy_cfg = str(CONFIGS / 'deploy/detection_onnxruntime_dynamic.py')
    main([deploy_cfg, *arguments, '--work-dir', str(tmp_path)])
    said = capsys.readouterr().out
    assert '0 only in onnxruntime, 0 only in PyTorch' in said
    assert (tmp_path / 'end2end.onnx').is_file()
    assert len(list(tmp_path.glob('output_*.jpg'))) == 2


@pytest.mark.parametrize(
    'name, reason',
    [
        ('detection_tensorrt_static', '--device cuda:0'),
        ('instance-seg_onnxruntime_dynamic', 'no mask head'),
        ('nowhere', 'does not exist'),
    ],
)
def test_refuses_before_the_work_starts(name, reason, arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main([str(CONFIGS / f'deploy/{name}.py'), *arguments, '--work-dir', str(tmp_path)])
    assert end.value.code == 2 and reason in capsys.readouterr().err


def test_a_config_that_cannot_be_read(arguments, tmp_path, capsys):
    config = tmp_path / 'broken.py'
    config.write_text('model = dict(')
    deploy_cfg = str(CONFIGS / 'deploy/detection_onnxruntime_dynamic.py')
    with pytest.raises(SystemExit) as end:
        main([deploy_cfg, str(config), *arguments[1:], '--work-dir', str(tmp_path)])
    assert end.value.code == 2 and 'broken.py cannot be read' in capsys.readouterr().err
