"""The table of models in a config folder's README, from its metafile.

Reported figures, names and parity stand in ``metafile.yml``; parameters and
FLOPs are measured and written there; the README's table is made from it.
"""
from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple

import yaml

from mmdet_centernet2.utils.complexity import Complexity

BEGIN, END = '<!-- model table -->', '<!-- end of model table -->'
HEADER = ('original', 'config', 'data', 'reported box mAP', 'parity',
          'parameters (M)', 'FLOPs (G)', 'input')


class Model(NamedTuple):
    """One model of a metafile.

    Args:
        name (str): Of the config, without ``.py``.
        config (str): Path of the config in the repository.
        original (str): Name in the original's zoo.
        data (str): What it is tested on.
        reported (float, optional): Box mAP that the original's authors
            report; None if they do not.
        parity (str): How its numbers compare with the original's.
        cost (Complexity): As measured.
    """

    name: str
    config: str
    original: str
    data: str
    reported: float | None
    parity: str
    cost: Complexity


def read_models(metafile: Path) -> List[Model]:
    """Models of a ``metafile.yml``.

    Args:
        metafile (Path): To read.

    Raises:
        KeyError: If a model has not got all fields.
        FileNotFoundError: If there is no such file.
    """
    content = yaml.safe_load(metafile.read_text(encoding='utf-8'))
    return [_model(entry) for entry in content['Models']]


def _model(entry: dict) -> Model:
    about = entry['Metadata']
    results = entry['Results']
    return Model(
        name=entry['Name'],
        config=entry['Config'],
        original=about['Original Name'],
        data=about['Test Data'],
        reported=results[0]['Metrics']['box AP'] if results else None,
        parity=about['Parity'],
        cost=Complexity(about['Parameters'], about['FLOPs'],
                        tuple(about['Input Shape'])))


def set_costs(text: str, costs: Mapping[str, Complexity]) -> str:
    """Text of a metafile with measured figures in the place of its own.

    Args:
        text (str): Of the metafile; comments and order stay.
        costs (Mapping[str, Complexity]): By the models' names.
    """
    lines, cost = [], None
    for line in text.splitlines():
        name = re.match(r'\s*- Name: (\S+)', line)
        cost = costs.get(name[1]) if name else cost
        lines.append(_with_cost(line, cost) if cost else line)
    return '\n'.join(lines) + '\n'


def _with_cost(line: str, cost: Complexity) -> str:
    figures: Dict[str, object] = {
        'Parameters': cost.parameters,
        'FLOPs': cost.multiply_adds,
        'Input Shape': list(cost.input_shape)
    }
    key = line.strip().split(':')[0]
    if key not in figures:
        return line
    indent = line[:len(line) - len(line.lstrip())]
    return f'{indent}{key}: {figures[key]}'


def table_of(models: List[Model]) -> str:
    """Markdown table, one row for each model.

    Args:
        models (list[Model]): In order.
    """
    rows = [HEADER, ('---', ) * len(HEADER), *map(_row, models)]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def _row(model: Model) -> tuple:
    height, width = model.cost.input_shape
    return (model.original, f'[`{model.name}`](./{Path(model.config).name})',
            model.data,
            'none' if model.reported is None else f'{model.reported:.1f}',
            model.parity, f'{model.cost.parameters / 1e6:.1f}',
            f'{model.cost.multiply_adds / 1e9:.0f}', f'{height} x {width}')


def set_table(readme: str, table: str) -> str:
    """Text of a README with its table replaced.

    Raises:
        ValueError: If the README has no place for it.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f'the README needs one "{BEGIN}" and one "{END}", '
                         'between which the table goes')
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    return f'{before}{BEGIN}\n\n{table}\n\n{END}{after}'
