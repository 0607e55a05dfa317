"""``centernet2 demo``: a page in the browser that detects and shows why."""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from html import escape
from pathlib import Path
from typing import Any

from torch import nn

from mmdet_centernet2.checkpoint.zoo import find_config
from mmdet_centernet2.cli.why import load_model, write_page
from mmdet_centernet2.utils.errors import PreflightError


def add_arguments(parser: ArgumentParser) -> None:
    """The command line of ``centernet2 demo``."""
    parser.add_argument('model', help='config file, or name of released weights')
    parser.add_argument('checkpoint', nargs='?', help='of the config file')
    parser.add_argument('--device', help='such as cuda:0 or cpu; the GPU if there is one')
    parser.add_argument('--host', default='127.0.0.1', help='0.0.0.0: also for other machines')
    parser.add_argument('--port', type=int, help='the first free one from 7860 on by default')


def demo(args: Namespace) -> None:
    """Open the page and serve it until interrupted."""
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise PreflightError(
            f"centernet2 demo needs Gradio ({error}): pip install 'gradio>=6,<7'"
        ) from error
    model, cfg = load_model(*find_config(args.model, args.checkpoint), args.device)
    build_page(model, cfg).launch(server_name=args.host, server_port=args.port)


def build_page(model: nn.Module, cfg: Any) -> Any:
    """The ``gradio.Blocks``, not served yet: a picture, and the view of ``centernet2 why``."""
    import gradio

    def explain(picture: str | None) -> str:
        if picture is None:
            return ''
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder, 'why.html')
            write_page(page, picture, model, cfg)
            text = page.read_text(encoding='utf-8')
        return f'<iframe srcdoc="{escape(text)}" style="width:100%;height:90vh;border:0"></iframe>'

    with gradio.Blocks(title='CenterNet2', analytics_enabled=False) as page:
        gradio.Markdown(
            '# CenterNet2\nDrop a picture; click a box to see where its score comes from.'
        )
        picture = gradio.Image(type='filepath', label='Picture', height=240)
        view = gradio.HTML()
        picture.change(explain, picture, view, api_name='why')
    return page
