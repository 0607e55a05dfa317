"""Measure the models of config folders and print the table of their READMEs.

    tools/analysis_tools/model_table.py [FOLDER ...] [--write]

With --write the figures go into FOLDER/metafile.yml and the table into
FOLDER/README.md. Parameters are all of them; FLOPs are multiply-adds, as
everywhere in mmdet, of convolutions (deformable and transposed ones too) and
matrix products for a photograph of 480 x 640 pixels, resized as the config's
test data are, with as many proposals and masks as the config allows.
"""

import re
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml
from complexity import Complexity, complexity
from mmdet.utils import register_all_modules
from mmengine.config import Config
from rich.progress import track

import mmdet_centernet2  # noqa: F401  registers the models

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [ROOT / 'configs' / name for name in ('centernet', 'centernet2')]

BEGIN, END = '<!-- model table -->', '<!-- end of model table -->'
HEADER = 'original|config|data|reported box mAP|parity|parameters (M)|FLOPs (G)|input'.split('|')


class Model(NamedTuple):
    """One model of a metafile."""

    name: str  # of the config, without ``.py``
    config: str  # its path in the repository
    original: str  # its name in the original's zoo
    data: str  # what it is tested on
    reported: float | None  # box mAP, if the original's authors report it
    parity: str  # how its numbers compare with the original's
    cost: Complexity


def read_models(metafile: Path) -> list[Model]:
    """Models of a ``metafile.yml``."""
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
        cost=Complexity(about['Parameters'], about['FLOPs'], tuple(about['Input Shape'])),
    )


def set_costs(text: str, costs: Mapping[str, Complexity]) -> str:
    """Text of a metafile, comments and order kept, with measured figures by models' names."""
    lines, figures = [], {}
    for line in text.splitlines():
        if name := re.match(r'\s*- Name: (\S+)', line):
            cost = costs.get(name[1])
            keys = ('Parameters', 'FLOPs', 'Input Shape')
            figures = dict(zip(keys, cost)) if cost else {}
        key = line.strip().split(':')[0]
        if key in figures:
            value = figures[key]
            shown = list(value) if isinstance(value, tuple) else value
            line = f'{line.partition(key)[0]}{key}: {shown}'
        lines.append(line)
    return '\n'.join(lines) + '\n'


def table_of(models: list[Model]) -> str:
    """Markdown table, one row for each model."""
    rows = [HEADER, ['---'] * len(HEADER), *map(_row, models)]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def _row(model: Model) -> tuple:
    height, width = model.cost.input_shape
    return (
        model.original,
        f'[`{model.name}`](./{Path(model.config).name})',
        model.data,
        'none' if model.reported is None else f'{model.reported:.1f}',
        model.parity,
        f'{model.cost.parameters / 1e6:.1f}',
        f'{model.cost.multiply_adds / 1e9:.0f}',
        f'{height} x {width}',
    )


def set_table(readme: str, table: str) -> str:
    """Text of a README with its table replaced.

    Raises:
        ValueError: If the README has no place for it.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(
            f'the README needs one "{BEGIN}" and one "{END}", between which the table goes'
        )
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    return f'{before}{BEGIN}\n\n{table}\n\n{END}{after}'


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs='*', type=Path, default=FOLDERS)
    parser.add_argument('--write', action='store_true')
    return parser.parse_args()


def measure(folder: Path, write: bool) -> None:
    """Measure one folder."""
    metafile, readme = folder / 'metafile.yml', folder / 'README.md'
    costs = {
        model.name: complexity(Config.fromfile(ROOT / model.config))
        for model in track(read_models(metafile), f'measuring {folder.name}')
    }
    models = [model._replace(cost=costs[model.name]) for model in read_models(metafile)]
    print(table_of(models))
    if write:
        metafile.write_text(set_costs(metafile.read_text('utf-8'), costs), 'utf-8')
        readme.write_text(set_table(readme.read_text('utf-8'), table_of(models)), 'utf-8')
        print(f'Wrote {metafile} and {readme}')


def main() -> None:
    """Measure all folders asked for."""
    args = parse_args()
    register_all_modules(init_default_scope=True)
    for folder in args.folders:
        measure(folder, args.write)


if __name__ == '__main__':
    main()
