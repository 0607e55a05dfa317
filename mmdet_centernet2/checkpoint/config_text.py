"""The config inside a checkpoint, read as data: nothing in it is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
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
    runtime = _dict(_dict(checkpoint.get('message_hub')).get('runtime_info'))
    text = runtime.get('cfg', _dict(checkpoint.get('meta')).get('cfg'))
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
        _check_types(config)
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
                found[name] = _value(value)
            case _:
                raise _refused(node)
    return found


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id='dict'), args=[] | [_] as args, keywords=keywords):
            # dict({...}) is how mmengine writes keys that are no names
            found = dict(_value(args[0])) if args else {}
            if all(keyword.arg for keyword in keywords):
                return found | {keyword.arg: _value(keyword.value) for keyword in keywords}
        case ast.Call(func=ast.Name(id='set'), args=[], keywords=[]):
            return set()
        case ast.Name(id='inf' | 'nan' as name):
            return float(name)
        case ast.List(elts=parts):
            return [_value(part) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(_value(part) for part in parts)
        case ast.Set(elts=parts):
            return {_value(part) for part in parts}
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_value(key): _value(value) for key, value in zip(keys, values) if key}
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
    raise _refused(node)


def _refused(node: ast.AST) -> ValueError:
    return ValueError(f'line {getattr(node, "lineno", "?")}: {ast.unparse(node)[:60]!r}')


def _dict(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _check_types(config: dict) -> None:
    """Refuse a ``type`` that is not registered: mmengine would import it by its name."""
    register_all_modules(init_default_scope=False)
    roots = (DATASETS, MODELS, TASK_UTILS, TRANSFORMS, WEIGHT_INITIALIZERS)
    # RoI layers and NMS are looked up in mmcv.ops; the type of an NMS with eval
    known = set(mmcv.ops.__all__).union(*(names for root in roots for names in _names(root)))
    for name in _types(config):
        if not isinstance(name, str) or name not in known:
            raise ValueError(f'type={name!r} is not registered')


def _names(registry: Registry) -> Iterator[set[str]]:
    """Registered names, also behind ``scope.``."""
    names = set(registry.module_dict)
    yield names
    yield {f'{registry.scope}.{name}' for name in names}
    for child in registry.children.values():
        yield from _names(child)


def _types(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if 'type' in value:
            yield value['type']
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return
    for part in value:
        yield from _types(part)
