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
from mmdet_centernet2.deploy.runtime.errors import DeployedModelError
from mmdet_centernet2.deploy.runtime.images import read_image
from mmdet_centernet2.deploy.runtime.model_info import KEY, ModelInfo
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


def changed(content: Any, changes: list[tuple[list[int], str, Any]]) -> Any:
    """JSON content with some of its parts replaced, removed or doubled."""
    content = json.loads(json.dumps(content))
    for path, action, value in changes:
        node, parent, key = content, None, None
        for step in path:
            if not isinstance(node, (dict, list)) or not node:
                break
            keys = list(node) if isinstance(node, dict) else range(len(node))
            parent, key = node, keys[step % len(keys)]
            node = node[key]
        if parent is None:
            continue
        if action == 'remove':
            del parent[key]
        elif action == 'double' and isinstance(parent, list):
            parent.append(node)
        else:
            parent[key] = value
    return content


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


COCO = dict(
    images=[dict(id=i, file_name=f'{i}.jpg', width=64, height=48) for i in (1, 2)],
    annotations=[
        dict(
            id=i,
            image_id=1 + i % 2,
            category_id=1,
            bbox=[4, 4, 20, 10],
            area=200,
            iscrowd=0,
            segmentation=[[4, 4, 24, 4, 24, 14]],
        )
        for i in (1, 2, 3)
    ],
    categories=[dict(id=1, name='cat')],
)
INFO = dict(classes=['a', 'b'], resize=dict(scale=[64, 48]), mean=[1, 2, 3], std=[1, 1, 1])
CONFIG = (
    "model = dict(type='CenterNet', data_preprocessor=dict(type='DetDataPreprocessor'))\n"
    "test_dataloader = dict(dataset=dict(type='CocoDataset', metainfo=dict(classes=('a', )),\n"
    "    pipeline=[dict(type='PackDetInputs')]))\n"
)


def fuzz(*strategies: st.SearchStrategy) -> Callable[[Callable], Callable]:
    """A test of hypothesis that errors meant for the user pass."""

    def decorate(read: Callable) -> Callable:
        def tolerant(how: tuple) -> None:
            try:
                read(*how)
            except RIGHT:
                pass

        test = given(st.tuples(*strategies))(tolerant)
        return settings(
            max_examples=ROUND, deadline=None, database=None, suppress_health_check=HealthCheck
        )(test)

    return decorate


def targets(folder: Path) -> dict[str, Callable[[], None]]:
    """What is damaged, each a test of hypothesis."""
    array = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    images = {}
    for kind in ('PNG', 'JPEG', 'GIF', 'TIFF', 'WEBP', 'BMP'):
        Image.fromarray(array).save(file := io.BytesIO(), kind)
        images[kind] = file.getvalue()
    checkpoints = []
    for options in ({}, dict(_use_new_zipfile_serialization=False)):
        state = dict(state_dict={'a.weight': torch.ones(3, 2)}, meta=dict(epoch=1))
        torch.save(state, file := io.BytesIO(), **options)
        checkpoints.append(file.getvalue())
    load = CheckedLoadImageFromFile(imdecode_backend='pillow')

    def write(content: bytes) -> Path:
        path = folder / 'file'
        path.write_bytes(content)
        return path

    @fuzz(changes, st.booleans(), st.sampled_from(['error', 'drop']))
    def annotations(how, masks, bad_boxes):
        path = write(json.dumps(changed(COCO, how)).encode())
        read_annotations(path, masks=masks, bad_boxes=bad_boxes)

    @fuzz(st.sampled_from(checkpoints), damage)
    def checkpoint(content, how):
        path = write(damaged(content, how))
        tensors_of(read_checkpoint(path), path)

    @fuzz(st.sampled_from(sorted(images)), damage, st.sampled_from(['cv2', 'pillow']))
    def image(kind, how, decoder):
        path = write(damaged(images[kind], how))
        try:
            load(dict(img_path=str(path)))
        except UserError:
            pass
        read_image(path, decoder)

    @fuzz(changes)
    def metadata(how):
        ModelInfo.from_metadata({KEY: json.dumps(changed(INFO, how))}, 'model.onnx')

    @fuzz(damage, st.text(max_size=8), st.integers(0, len(CONFIG)))
    def config(how, text, place):
        source = damaged(CONFIG.encode(), how).decode('latin1')
        source = source[:place] + text + source[place:]
        config_of_checkpoint(dict(meta=dict(cfg=source)), 'model.pth')

    return dict(
        annotations=annotations,
        checkpoint=checkpoint,
        image=image,
        metadata=metadata,
        config=config,
    )


def main() -> int:
    """Run until the time is over."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--minutes', type=float, default=60)
    parser.add_argument('--out', type=Path, default=Path('findings'))
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    end, runs, found = time.monotonic() + 60 * args.minutes, Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        tests = targets(Path(folder))
        while time.monotonic() < end:
            for name, test in tests.items():
                runs[name] += 1
                try:
                    test()
                except Exception as error:
                    where = traceback.extract_tb(error.__traceback__)[-1]
                    text = ''.join(traceback.format_exception(error))
                    text += '\n'.join(getattr(error, '__notes__', ()))
                    args.out.mkdir(parents=True, exist_ok=True)
                    kind = (
                        f'{name}-{type(error).__name__}-{Path(where.filename).stem}{where.lineno}'
                    )
                    (args.out / f'{kind}.txt').write_text(text)
                    found[kind] += 1
            print(f'{dict(runs)} rounds of {ROUND}, findings: {dict(found)}', flush=True)
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
