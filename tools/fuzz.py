"""Damage files in every way hypothesis thinks of; only one-line errors may come of it.

    python tools/fuzz.py --minutes 60 --out findings

Annotation files, image files, checkpoints, configs inside checkpoints and the
metadata of exported models are read as the tools read them. A result or an
error meant for the user is right; any other exception is a finding: its
smallest example and trace go to ``--out``, and the exit status is 1. Not part
of the tests; what it finds becomes one.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import io
import json
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmdet_centernet2.checkpoint.config_text import config_of_checkpoint
from mmdet_centernet2.checkpoint.files import read_checkpoint, tensors_of
from mmdet_centernet2.datasets.annotation_file import read_annotations
from mmdet_centernet2.datasets.transforms.loading import CheckedLoadImageFromFile
from mmdet_centernet2.runtime.errors import DeployedModelError
from mmdet_centernet2.runtime.images import read_image
from mmdet_centernet2.runtime.model_info import KEY, ModelInfo
from mmdet_centernet2.utils.errors import UserError

#: Errors meant for the user.
RIGHT = (UserError, DeployedModelError)
#: Files of each kind in a row.
ROUND = 200

numbers = st.integers(-5, 10) | st.integers() | st.floats() | st.sampled_from([1e308, 10**400])
plain = st.none() | st.booleans() | numbers | st.text(max_size=6) | st.just('0')
values = st.recursive(
    plain, lambda v: st.lists(v, max_size=5) | st.dictionaries(st.text(max_size=6), v, max_size=3)
)


def changed(node: Any, path: list[int], action: str, value: Any) -> Any:
    """JSON content with one of its parts replaced, removed or doubled."""
    if not isinstance(node, (dict, list)) or not node:
        return value
    keys = list(node) if isinstance(node, dict) else range(len(node))
    key = keys[path[0] % len(keys)]
    if path[1:]:
        node[key] = changed(node[key], path[1:], action, value)
    elif action == 'remove':
        del node[key]
    elif action == 'double' and isinstance(node, list):
        node.append(node[key])
    else:
        node[key] = value
    return node


def changed_json(content: Any, changes: list[tuple[list[int], str, Any]]) -> str:
    content = copy.deepcopy(content)
    for change in changes:
        content = changed(content, *change)
    return json.dumps(content)


changes = st.lists(
    st.tuples(
        st.lists(st.integers(0, 20), min_size=1, max_size=5),
        st.sampled_from(['replace', 'replace', 'remove', 'double']),
        values,
    ),
    max_size=4,
)
damage = st.tuples(
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=8),
    st.none() | st.integers(0, 2**20),
)


def damaged(content: bytes, how: tuple[list[tuple[int, int]], int | None]) -> bytes:
    """Bytes with some of them changed, perhaps cut off."""
    data = bytearray(content)
    for position, byte in how[0]:
        data[position % len(data)] = byte
    return bytes(data if how[1] is None else data[: how[1] % len(data)])


BOX = dict(category_id=1, bbox=[4, 4, 20, 10], area=200, iscrowd=0)
POLYGON = [[4, 4, 24, 4, 24, 14]]
COCO = dict(
    images=[dict(id=i, file_name=f'{i}.jpg', width=64, height=48) for i in (1, 2)],
    annotations=[dict(BOX, id=i, image_id=1 + i % 2, segmentation=POLYGON) for i in (1, 2, 3)],
    categories=[dict(id=1, name='cat')],
)
INFO = dict(classes=['a', 'b'], resize=dict(scale=[64, 48]), mean=[1, 2, 3], std=[1, 1, 1])
CONFIG = (
    "model = dict(type='CenterNet', data_preprocessor=dict(type='DetDataPreprocessor'))\n"
    "test_dataloader = dict(dataset=dict(type='CocoDataset', metainfo=dict(classes=('a', )),\n"
    "    pipeline=[dict(type='PackDetInputs')]))\n"
)


def saved(save: Callable, *how: Any, **options: Any) -> bytes:
    save(file := io.BytesIO(), *how, **options)
    return file.getvalue()


PICTURE = Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3))
IMAGES = [saved(PICTURE.save, kind) for kind in ('PNG', 'JPEG', 'GIF', 'TIFF', 'WEBP', 'BMP')]
STATE = dict(state_dict={'a.weight': torch.ones(3, 2)}, meta=dict(epoch=1))
SAVE = functools.partial(torch.save, STATE)
CHECKPOINTS = [saved(SAVE, _use_new_zipfile_serialization=new) for new in (True, False)]
SCRATCH = tempfile.TemporaryDirectory()
LOAD = CheckedLoadImageFromFile(imdecode_backend='pillow')
#: What is damaged, each a test of hypothesis.
TARGETS: dict[str, Callable[[], None]] = {}


def fuzz(*strategies: st.SearchStrategy) -> Callable[[Callable], None]:
    """Make a target of a function; errors meant for the user pass."""

    def decorate(read: Callable) -> None:
        def tolerant(how: tuple) -> None:
            with contextlib.suppress(*RIGHT):
                read(*how)

        options = dict(deadline=None, database=None, suppress_health_check=HealthCheck)
        test = given(st.tuples(*strategies))(tolerant)
        TARGETS[read.__name__] = settings(max_examples=ROUND, **options)(test)

    return decorate


def write(content: bytes) -> Path:
    path = Path(SCRATCH.name, 'file')
    path.write_bytes(content)
    return path


@fuzz(changes, st.booleans(), st.sampled_from(['error', 'drop']))
def annotations(how, masks, bad_boxes):
    path = write(changed_json(COCO, how).encode())
    read_annotations(path, masks=masks, bad_boxes=bad_boxes)


@fuzz(st.sampled_from(CHECKPOINTS), damage)
def checkpoint(content, how):
    path = write(damaged(content, how))
    tensors_of(read_checkpoint(path), path)


@fuzz(st.sampled_from(IMAGES), damage, st.sampled_from(['cv2', 'pillow']))
def image(content, how, decoder):
    path = write(damaged(content, how))
    with contextlib.suppress(UserError):
        LOAD(dict(img_path=str(path)))
    read_image(path, decoder)


@fuzz(changes)
def metadata(how):
    ModelInfo.from_metadata({KEY: changed_json(INFO, how)}, 'model.onnx')


@fuzz(damage, st.text(max_size=8), st.integers(0, len(CONFIG)))
def config(how, text, place):
    source = damaged(CONFIG.encode(), how).decode('latin1')
    source = source[:place] + text + source[place:]
    config_of_checkpoint(dict(meta=dict(cfg=source)), 'model.pth')


def main() -> int:
    """Run until the time is over."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--minutes', type=float, default=60)
    parser.add_argument('--out', type=Path, default=Path('findings'))
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    end, rounds, found = time.monotonic() + 60 * args.minutes, 0, Counter[str]()
    while time.monotonic() < end:
        rounds += 1
        for name, test in TARGETS.items():
            try:
                test()
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                file = f'{name}-{type(error).__name__}-{Path(where.filename).stem}{where.lineno}'
                text = [*traceback.format_exception(error), *getattr(error, '__notes__', ())]
                args.out.mkdir(parents=True, exist_ok=True)
                (args.out / f'{file}.txt').write_text('\n'.join(text))
                found[file] += 1
        print(f'{rounds} rounds of {ROUND} files of each kind, findings: {dict(found)}', flush=True)
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
