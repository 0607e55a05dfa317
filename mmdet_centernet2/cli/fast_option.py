"""``--fast`` on the command lines of mmdet's tools."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from types import ModuleType

from mmdet_centernet2.cli.checks import load_config
from mmdet_centernet2.engine.hooks.fast_inference import MODES


def add_fast_argument(parser: ArgumentParser) -> None:
    """Add ``--fast {exact,bf16}`` to a parser."""
    parser.add_argument(
        '--fast',
        choices=list(MODES),
        help='detect faster: with the same numbers (to 1e-6), or in bfloat16 (see docs/tools.md)',
    )


def accept_fast_option(tool: ModuleType) -> None:
    """Let one of mmdet's tools accept ``--fast``.

    The option becomes a ``FastInferenceHook`` behind the config's own
    ``custom_hooks``.
    """
    parse_tool = tool.parse_args
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    add_fast_argument(parser)

    def parse_args() -> Namespace:
        before = sys.argv
        ours, rest = parser.parse_known_args(before[1:])
        sys.argv = [before[0], *rest]
        try:
            args = parse_tool()
        finally:
            sys.argv = before
        if ours.fast:
            hooks = load_config(args).get('custom_hooks', [])
            hook = dict(type='FastInferenceHook', mode=ours.fast)
            args.cfg_options = dict(args.cfg_options or {}, custom_hooks=[*hooks, hook])
        return args

    tool.parse_args = parse_args
