"""``centernet2 train``: from a folder to a config, a detector and a report."""

import json
import os
import re
import runpy
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

from mmdet_centernet2.cli.main import main
from tests.paths import ROOT
from tests.test_cli.own_data import make_images, write_coco, write_roboflow_coco, write_yolo

pytestmark = pytest.mark.slow

# Smaller images than the command chooses, and a few iterations.
QUICK = ['--epochs', '2', '--cfg-options', 'train_cfg.max_iters=4', 'train_cfg.val_interval=2']
QUICK += ['train_dataloader.batch_size=1']


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    """The finished command, as a user calls it, and its folder."""
    folder = tmp_path_factory.mktemp('train')
    write_yolo(folder / 'shapes', make_images())
    command = [sys.executable, '-c', 'from mmdet_centernet2.cli.main import main; main()']
    finished = subprocess.run(
        [*command, 'train', 'shapes', '--out', 'out', *QUICK],
        capture_output=True,
        text=True,
        cwd=folder,
        env=dict(os.environ, PYTHONPATH=str(ROOT), PATH=''),
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout, folder / 'out'


def test_one_folder_holds_everything(done):
    _, out = done
    names = {'check.txt', 'checkpoint.pth', 'config.py', 'data', 'labels.png', 'metrics.json'}
    assert {path.name for path in out.iterdir()} == {*names, 'report.html', 'training', 'why'}
    metrics = json.loads((out / 'metrics.json').read_text())
    assert 0 <= metrics['mAP'] <= metrics['mAP_50'] <= 1


def test_a_person_can_follow(done):
    text, _ = done
    for part in ('YOLO; 9 images', '2 classes: white, red', 'to go', 'held-out images: AP'):
        assert part in text
    assert 'report.html' in text and 'Running per image evaluation' not in text
    assert len(text.splitlines()) < 40


def test_the_config_is_the_interface(done, monkeypatch):
    """Short, and every tool of mmdet takes it from any folder."""
    _, out = done
    assert len((out / 'config.py').read_text().splitlines()) <= 40
    cfg = Config.fromfile(out / 'config.py')
    assert cfg.model.roi_head.bbox_head.num_classes == 2
    assert cfg.train_dataloader.dataset.metainfo.classes == ('white', 'red')
    command = ['test.py', str(out / 'config.py'), str(out / 'checkpoint.pth')]
    monkeypatch.chdir(out.parent)
    monkeypatch.setattr(sys, 'argv', [*command, '--work-dir', str(out.parent / 'test')])
    runpy.run_path(str(ROOT / 'tools/test.py'), run_name='__main__')
    (log,) = (out.parent / 'test').glob('*/*.json')
    tested = json.loads(log.read_text())
    found = json.loads((out / 'metrics.json').read_text())
    assert tested['coco/bbox_mAP'] == pytest.approx(found['mAP'], abs=2e-3)


def test_the_report_needs_no_other_file(done):
    page = (done[1] / 'report.html').read_text()
    for heading in ('Classes', 'Pictures', 'What goes wrong', 'Confusion matrix', 'Training'):
        assert f'<h2>{heading}</h2>' in page
    assert page.count('data:image/jpeg;base64,') == 3
    for link in re.findall(r'href="(why/[^"]+)"', page):
        assert '√(' in (done[1] / link).read_text()
    assert page.count('>why?</a>') == 3
    assert page.count('src="') == page.count('src="data:image/png;base64,') == 1
    assert 'http://' not in page.replace('http://www.w3.org', '').replace(
        'http://purl.org', ''
    ).replace('http://creativecommons.org', '')


def test_called_again_it_goes_on(done, capsys):
    _, out = done
    main(['train', str(out.parent / 'shapes'), '--out', str(out), *QUICK[2:]])
    said = capsys.readouterr().out
    assert 'going on with it' in said and 'Resuming from' in said
    for words in (['--epochs', '9'], ['--from-above']):
        with pytest.raises(SystemExit):
            main(['train', str(out.parent / 'shapes'), '--out', str(out), *words])
        assert f'{words[0]} was given' in capsys.readouterr().err


def test_another_form_in_a_given_time(tmp_path, capsys):
    write_roboflow_coco(tmp_path / 'data', make_images())
    folders = [str(tmp_path / 'data'), '--out', str(tmp_path / 'out')]
    main(['train', *folders, '--time', '1s', *QUICK[2:]])
    assert 'Measuring 4 iterations' in capsys.readouterr().out
    config = Config.fromfile(tmp_path / 'out' / 'config.py')
    assert config.train_cfg.max_iters == 20
    # fewer and smaller images, where few iterations are left
    assert config.train_dataloader.batch_size == 2 and config.crop == 224
    assert config.custom_hooks[-1].type == 'EarlyStoppingHook'
    state = torch.load(tmp_path / 'out' / 'checkpoint.pth', weights_only=True)
    assert 'state_dict' in state


def test_faults_of_the_labels_stop_it_first(tmp_path, capsys):
    folder = write_coco(tmp_path / 'data', make_images())
    content = json.loads((folder / 'labels.json').read_text())
    for image in content['images']:
        image['width'], image['height'] = image['height'], image['width']
    (folder / 'labels.json').write_text(json.dumps(content))
    with pytest.raises(SystemExit):
        main(['train', str(folder), '--out', str(tmp_path / 'out')])
    captured = capsys.readouterr()
    assert 'faults, listed above' in captured.err or 'error:' in captured.err
    assert not (tmp_path / 'out' / 'config.py').exists()
    assert not (tmp_path / 'out' / 'training').exists()


def test_user_errors_are_lines(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(['train', str(tmp_path / 'nothing')])
    assert end.value.code == 2
    assert 'nothing does not exist' in capsys.readouterr().err
