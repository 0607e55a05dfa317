"""``centernet2 demo``: the page, as its client sees it."""

import functools
import html
import json
import re
import sys

import cv2
import gradio
import gradio_client
import numpy as np
import pytest

from mmdet_centernet2.cli.main import main
from tests.test_cli.test_predict import model  # noqa: F401


def test_a_dropped_picture_is_explained(model, tmp_path, monkeypatch):  # noqa: F811
    pages = []
    launch = functools.partialmethod(gradio.Blocks.launch, prevent_thread_lock=True)

    def launch_and_keep(page, **options):
        pages.append((page, launch.__get__(page)(**options)))

    monkeypatch.setattr(gradio.Blocks, 'launch', launch_and_keep)
    picture = tmp_path / 'a.png'
    cv2.imwrite(str(picture), np.full((90, 140, 3), 99, np.uint8))
    main(['demo', *model, '--device', 'cpu'])
    ((page, (_, address, _)),) = pages
    try:
        view = gradio_client.Client(address, verbose=False).predict(
            gradio_client.handle_file(picture), api_name='/why'
        )
    finally:
        page.close()
    text = html.unescape(re.fullmatch(r'<iframe srcdoc="([^"]*)" style="[^"]*"></iframe>', view)[1])
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert (data['width'], data['height']) == (140, 90)
    assert data['detections'] and data['classes'][3] == 'class 3'


def test_without_gradio(model, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(SystemExit):
        main(['demo', *model])
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and "pip install 'gradio>=6,<7'" in said
