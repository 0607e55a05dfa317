"""The config inside a checkpoint, read as data: nothing in it is executed."""

from __future__ import annotations

import ast
from typing import Any

import mmcv.ops
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.registry import (
    DATASETS,
    MODELS,
    TASK_UTILS,
    TRANSFORMS,
    WEIGHT_INITIALIZERS,
    Registry,
)

from mmdet_centernet2.utils.errors import CheckpointError


def config_of_checkpoint(checkpoint: dict, path: str) -> Config:
    """The config that mmengine saved with a checkpoint, as far as detecting needs it.

    A checkpoint comes from anywhere. mmengine executes its config as Python
    and imports whatever a ``type`` names; here both are refused.

    Args:
        checkpoint: As :func:`read_checkpoint` returns it.
        path: Its file, for messages.

    Returns:
        What ``DetInferencer(config, path)`` reads.

    Raises:
        CheckpointError: If there is no config, if it holds more than plain
            values, or if a ``type`` is not in mmengine's registries.
    """
    meta = checkpoint.get('meta')
    text = meta.get('cfg') if isinstance(meta, dict) else None
    instead = f'Give the config file, then --weights {path}.'
    if not isinstance(text, str):
        raise CheckpointError(f'checkpoint {path} holds no config. {instead}')
    try:
        settings = parse_config(text)
        given = settings['test_dataloader']['dataset']
        # of the data set, mmdet takes the pipeline and the colours of its classes
        dataset = {key: given[key] for key in ('type', 'pipeline')}
        dataset['metainfo'] = dict(given.get('metainfo') or {})
        config = dict(model=settings['model'], test_dataloader=dict(dataset=dataset))
        _check_types(config, _registered())
    except Exception as error:  # a text can be wrong in any way
        missing = 'no ' * isinstance(error, KeyError)
        reason = missing + (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f'the config inside checkpoint {path} is not used, because it is not what mmengine '
            f'writes ({reason}): it could run code. {instead}'
        ) from error
    config['visualizer'] = dict(type='CenterNet2Visualizer', name='visualizer')
    return Config(config)


def parse_config(text: str) -> dict[str, Any]:
    """Read ``name = value`` lines of plain values and ``dict(...)`` from the syntax tree.

    Raises:
        ValueError: With the line of whatever else is there.
        SyntaxError: If it is not Python.
    """
    found = {}
    for node in ast.parse(text).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                found[name] = ast.literal_eval(_Literals().visit(value))
            case _:
                raise ValueError(f'line {node.lineno}: {ast.unparse(node)[:60]!r}')
    return found


class _Literals(ast.NodeTransformer):
    """Turns what mmengine writes beside literals into literals."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """``dict(a=1)``, and ``dict({...})`` of keys that are no names."""
        match self.generic_visit(node):
            case ast.Call(func=ast.Name(id='dict'), args=[], keywords=given):
                keys = [ast.Constant(keyword.arg) for keyword in given]
                return ast.Dict([*keys], [keyword.value for keyword in given])
            case ast.Call(func=ast.Name(id='dict'), args=[ast.Dict() as only], keywords=[]):
                return only
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """``inf`` and ``nan``."""
        return ast.Constant(float(node.id)) if node.id in ('inf', 'nan') else node


def _registered() -> set[str]:
    """What a ``type`` may be: mmengine would import any other by its name."""
    register_all_modules(init_default_scope=False)
    # RoI layers and NMS are looked up in mmcv.ops; the type of an NMS with eval
    names = set(mmcv.ops.__all__)
    registries: list[Registry] = [DATASETS, MODELS, TASK_UTILS, TRANSFORMS, WEIGHT_INITIALIZERS]
    for registry in registries:  # grows
        names.update(registry.module_dict)
        names.update(f'{registry.scope}.{name}' for name in registry.module_dict)
        registries += registry.children.values()
    return names


def _check_types(value: Any, known: set[str]) -> None:
    if isinstance(value, dict):
        if 'type' in value and value['type'] not in known:
            raise ValueError(f'type={value["type"]!r} is not registered')
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for part in value:
        _check_types(part, known)
