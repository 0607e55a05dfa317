"""Exported models in a browser: ``docs/web_page.html`` finds what the runtime finds."""

import functools
import http.server
import json
import shutil
import subprocess
import tarfile
import threading

import cv2
import numpy as np
import pytest

from mmdet_centernet2.runtime import Detector
from tests.browser import BROWSER_MARKS, open_browser
from tests.paths import ROOT
from tests.test_deploy.exporting import set_resize

pytestmark = [*BROWSER_MARKS, pytest.mark.export]
ORT_WEB = 'onnxruntime-web@1.30.0'
PARTS = ('ort.wasm.min.mjs', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm')
#: All of ``FAMILIES`` pass; these have every operator.
SOME = ('one stage, FPN', 'Res2Net, DCN, BiFPN', 'masks')
SIZE = 128  # of the picture, and of the network's input, so that nothing is resized


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """A folder with the page and onnxruntime-web, and the address that serves it."""
    folder = tmp_path_factory.mktemp('site')
    if shutil.which('npm') is None:
        pytest.skip(f'no npm to fetch {ORT_WEB} with')
    fetched = subprocess.run(['npm', 'pack', ORT_WEB], cwd=folder, capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f'{ORT_WEB} cannot be fetched: {fetched.stderr.splitlines()[-1:]}')
    (package,) = folder.glob('*.tgz')
    with tarfile.open(package) as archive:
        for name in PARTS:
            content = archive.extractfile(f'package/dist/{name}').read()
            (folder / name).write_bytes(content)
    shutil.copy(ROOT / 'docs/web_page.html', folder / 'index.html')

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map = {'.html': 'text/html', '.mjs': 'text/javascript'}

        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()


@pytest.fixture(scope='module')
def browser():
    with open_browser() as browser:
        yield browser


@pytest.mark.parametrize('family', SOME)
def test_the_page_finds_what_the_runtime_finds(family, exported, site, browser):
    folder, address = site
    path = folder / 'end2end.onnx'
    info = set_resize(exported(family)[1], path, scale=[SIZE, SIZE], short_side=True)
    (folder / 'model.json').write_text(json.dumps(info))
    blocks = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    photo = folder / 'photo.png'
    cv2.imwrite(str(photo), blocks.repeat(SIZE // 8, 0).repeat(SIZE // 8, 1))
    wanted = Detector(path)(str(photo))
    assert len(wanted.scores) > 5, 'the model finds too little to prove anything'

    page = browser.new_page()
    problems = []
    page.on('pageerror', lambda error: problems.append(str(error)))
    page.goto(address)
    page.wait_for_function('window.ready')
    page.set_input_files('input', str(photo))
    page.wait_for_function('window.detections')
    found = page.evaluate('window.detections')
    page.close()
    assert not problems
    assert len(found) == len(wanted.scores)
    for box, score, label in zip(wanted.bboxes, wanted.scores, wanted.labels):
        (best, *_) = sorted(found, key=lambda d: np.abs(np.array(d['box']) - box).max())
        assert best['label'] == info['classes'][label]
        np.testing.assert_allclose(best['box'], box, atol=0.01)
        assert abs(best['score'] - score) < 1e-4
        found.remove(best)
