"""mmdet's own analysis tools and SAHI take every config as it is shipped.

Each config names its data below ``data/``; the tests work in a folder where
tiny data of the right kind lie there. Detections are made from the labels, so
every tool must find them perfect. The tools run inside this process, with
threads instead of their dozens of processes; each also runs once as users
start it.
"""

import functools
import importlib.util
import json
import os
import pickle
import re
import subprocess
import sys
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import matplotlib.pyplot as plt
import mmdet
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from PIL import Image

from mmdet_centernet2.datasets.transforms import CheckedLoadImageFromFile, Resize
from tests.paths import CONFIGS
from tests.test_configs.recipes import shipped_configs
from tests.test_configs.test_every_config_runs import shrink_model
from tests.test_configs.tiny_data import PICTURES, write_dataset

NAMES = sorted(shipped_configs())
TOOLS = Path(mmdet.__file__).parent / '.mim/tools/analysis_tools'
TREES = 'centernet2/centernet2_mobilenet-v2_fpn_tree-tiles.py'
MASKS = 'centernet2/centernet2-mask_dla34_crop640-8x_nuimages.py'
OBJECTS = sum(len(boxes) for _, boxes in PICTURES)


class Case(NamedTuple):
    """A config, its tiny data and perfect detections."""

    path: Path
    cfg: Config
    annotations: Path
    predictions: Path


@pytest.fixture(scope='module', autouse=True)
def folder(tmp_path_factory):
    """The working directory, which ``data/`` of every config is in."""
    before = os.getcwd()
    folder = tmp_path_factory.mktemp('stock')
    os.chdir(folder)
    make_case.cache_clear()  # a worker may come back to this module, in a new folder
    yield folder
    os.chdir(before)


@pytest.fixture(autouse=True)
def _draw_without_a_screen(monkeypatch):
    monkeypatch.setenv('MPLBACKEND', 'Agg')
    plt.switch_backend('Agg')
    yield
    plt.close('all')


@pytest.fixture
def case(request) -> Case:
    return make_case(request.param)


@functools.lru_cache(None)
def make_case(name: str) -> Case:
    cfg = Config.fromfile(CONFIGS / name)
    data = cfg.test_dataloader.dataset
    annotations = Path(data.data_root, data.ann_file)
    if not annotations.exists():
        write_dataset(data)
    predictions = annotations.with_suffix('.pkl')
    if not predictions.exists():
        dataset = DATASETS.build(data)
        masks = 'mask_head' in cfg.model.get('roi_head', {})
        found = [perfect(dataset.get_data_info(i), masks) for i in range(len(dataset))]
        predictions.write_bytes(pickle.dumps(found))
    return Case(CONFIGS / name, cfg, annotations, predictions)


def perfect(image: dict, masks: bool) -> dict:
    """As ``test.py --out`` writes what is found in an image."""
    objects = image['instances']
    found = dict(
        bboxes=torch.tensor([o['bbox'] for o in objects]).float(),
        labels=torch.tensor([o['bbox_label'] for o in objects]),
        scores=torch.linspace(0.9, 0.8, len(objects)),
    )
    if masks:
        found['masks'] = [o['mask'] for o in objects]
    return dict(
        img_id=image['img_id'],
        img_path=image['img_path'],
        ori_shape=(image['height'], image['width']),
        pred_instances=found,
    )


def every_config(test):
    return pytest.mark.parametrize('case', NAMES, indirect=True)(test)


def tool(name: str) -> ModuleType:
    """One of mmdet's tools as a module."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if hasattr(module, 'Pool'):
        module.Pool = ThreadPool
    return module


def main(monkeypatch, module: ModuleType, *arguments) -> None:
    """Run a tool with a command line."""
    monkeypatch.setattr(sys, 'argv', [module.__file__, *map(str, arguments)])
    module.main()


# Runs each command in a process that has not imported this package.
FORK = """
import json, os, runpy, sys
import mmdet.apis
for sys.argv in json.loads(sys.argv[1]):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        runpy.run_path(sys.argv[0], run_name='__main__')
        break
    if os.waitpid(child, 0)[1]:
        sys.exit(sys.argv[0])
"""


def run(*commands: tuple) -> str:
    """Run tools as users do."""
    lines = json.dumps([(TOOLS / f'{name}.py', *rest) for name, *rest in commands], default=str)
    done = subprocess.run([sys.executable, '-c', FORK, lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def figures_in(text: str) -> list:
    """Average precisions that ``eval_metric.py`` prints."""
    found = re.findall(r"_m?AP': (?:np.float64\()?([-.\d]+)", text)
    return [float(figure) for figure in found]


# -----eval_metric.py and coco_error_analysis.py-----
@every_config
def test_eval_metric_and_what_it_writes_for_the_error_analysis(case, tmp_path, monkeypatch, capsys):
    option = f'val_evaluator.outfile_prefix={tmp_path}/found'
    arguments = (case.path, case.predictions, '--cfg-options', option)
    main(monkeypatch, tool('eval_metric'), *arguments)
    metric = case.cfg.val_evaluator.metric
    kinds = [metric] if isinstance(metric, str) else metric
    assert figures_in(capsys.readouterr().out) == pytest.approx([1.0] * len(kinds))

    module, areas = tool('coco_error_analysis'), []

    def note(rs, ps, *_):
        areas.append(ps[..., 0, 0].mean(axis=tuple(range(1, ps.ndim - 2))))

    monkeypatch.setattr(module, 'makeplot', note)
    few = few_categories(case.annotations, tmp_path / 'few.json')
    main(monkeypatch, module, tmp_path / 'found.bbox.json', tmp_path / 'out', '--ann', few)
    for errors in areas:  # C75, C50, Loc, Sim, Oth, BG, FN
        assert errors == pytest.approx([1.0] * 7)
    assert areas


def few_categories(annotations: Path, file: Path) -> Path:
    """The same without classes that have no object, to be quick.

    Each class gets the ``supercategory`` of COCO's file, without which the
    tool ends with a KeyError.
    """
    content = json.loads(annotations.read_text())
    used = {a['category_id'] for a in content['annotations']}
    categories = content['categories']
    content['categories'] = [dict(c, supercategory='thing') for c in categories if c['id'] in used]
    file.write_text(json.dumps(content))
    return file


# -----analyze_results.py-----
@pytest.mark.slow
@every_config
def test_analyze_results(case, tmp_path, monkeypatch):
    """All but the model, which the tool builds and does not use."""
    module = tool('analyze_results')

    def runner(cfg):
        return SimpleNamespace(test_evaluator=Evaluator(cfg.test_evaluator))

    monkeypatch.setattr(module.Runner, 'from_cfg', runner)
    main(monkeypatch, module, case.path, case.predictions, tmp_path)
    pictures = [file.name for file in tmp_path.rglob('*.jpg')]
    assert sorted(pictures) == [f'{0:012d}_1.0.jpg', f'{1:012d}_1.0.jpg']


# -----confusion_matrix.py-----
@every_config
def test_confusion_matrix(case, tmp_path, monkeypatch):
    """The matrix; a plot of many classes would take minutes and gigabytes."""
    module, plots = tool('confusion_matrix'), []
    monkeypatch.setattr(module, 'plot_confusion_matrix', lambda *args, **_: plots.append(args))
    main(monkeypatch, module, case.path, case.predictions, tmp_path)
    ((matrix, labels),) = plots
    assert labels[-1] == 'background' and matrix.shape == (len(labels),) * 2
    assert np.trace(matrix) == matrix.sum() == OBJECTS


# -----as users run them-----
@pytest.mark.slow
@pytest.mark.parametrize('case', [TREES], indirect=True)
def test_every_tool_as_a_command(case, tmp_path):
    prefix, few = tmp_path / 'found', few_categories(case.annotations, tmp_path / 'few.json')
    option = f'val_evaluator.outfile_prefix={prefix}'
    said = run(
        ('eval_metric', case.path, case.predictions, '--cfg-options', option),
        ('analyze_results', case.path, case.predictions, tmp_path / 'results'),
        ('confusion_matrix', case.path, case.predictions, tmp_path),
        ('coco_error_analysis', f'{prefix}.bbox.json', tmp_path / 'errors', '--ann', few),
    )
    assert figures_in(said) == pytest.approx([1.0])
    assert len(list((tmp_path / 'results').rglob('*_1.0.jpg'))) == 2
    for name in ('confusion_matrix.png', 'errors/bbox/bbox-tree-allarea.png'):
        with Image.open(tmp_path / name) as plot:
            assert min(plot.size) > 50


# -----SAHI-----
@pytest.mark.slow
@every_config
def test_sahi(case, tmp_path, monkeypatch):
    """Slices of an image, resized to the size that SAHI is asked for; in fewer channels."""
    import sahi
    from sahi.predict import get_sliced_prediction

    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')  # sahi sets it for all that follows
    torch.manual_seed(0)  # some detections in both slices
    checkpoint = tmp_path / 'untrained.pth'
    meta = DATASETS.build(dict(case.cfg.test_dataloader.dataset, lazy_init=True)).metainfo
    torch.save(dict(state_dict={}, meta=dict(dataset_meta=meta)), checkpoint)
    small = Config.fromfile(case.path)
    shrink_model(small.model)
    small.dump(tmp_path / case.path.name)
    paths = dict(model_path=str(checkpoint), config_path=str(tmp_path / case.path.name))
    model = sahi.AutoDetectionModel.from_pretrained(
        'mmdet', **paths, device='cpu', image_size=64, confidence_threshold=0.0
    )
    assert tuple(model.category_names) == tuple(meta['classes'])
    load, resize = (
        next(t for t in model.model.pipeline.transforms if isinstance(t, kind))
        for kind in (mmdet.datasets.transforms.InferencerLoader, Resize)
    )
    assert isinstance(load.from_file, CheckedLoadImageFromFile)
    assert resize.scale == (64, 64)
    masks = case.path.name in MASKS
    if masks:  # every pixel, whatever the weights are
        model.model.model.roi_head.test_cfg.mask_thr_binary = 0.0
    image = np.random.RandomState(0).randint(0, 256, (40, 100, 3), np.uint8)
    result = get_sliced_prediction(
        image, model, slice_height=40, slice_width=60, overlap_width_ratio=0.2, verbose=0
    )
    found = result.object_prediction_list
    assert found and {o.category.name for o in found} <= set(meta['classes'])
    assert max(o.bbox.maxx for o in found) > 60  # of the second slice
    assert model.has_mask == masks
    assert all((o.mask is not None) == masks for o in found)
