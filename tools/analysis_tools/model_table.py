"""Measure the models of config folders and print the table of their READMEs.

    tools/analysis_tools/model_table.py [FOLDER ...] [--write]

With --write the figures go into FOLDER/metafile.yml and the table into
FOLDER/README.md. Parameters are all of them; FLOPs are multiply-adds, as
everywhere in mmdet, of convolutions (deformable and transposed ones too) and
matrix products for a photograph of 480 x 640 pixels, resized as the config's
test data are, with as many proposals and masks as the config allows.
"""
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from mmdet.utils import register_all_modules
from mmengine.config import Config
from rich.progress import track

import mmdet_centernet2  # noqa: F401  registers the models
from mmdet_centernet2.utils.complexity import complexity
from mmdet_centernet2.utils.model_table import (read_models, set_costs,
                                                set_table, table_of)

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [ROOT / 'configs' / name for name in ('centernet', 'centernet2')]


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(
        description=__doc__, formatter_class=RawDescriptionHelpFormatter)
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
    models = [
        model._replace(cost=costs[model.name])
        for model in read_models(metafile)
    ]
    print(table_of(models))
    if write:
        metafile.write_text(
            set_costs(metafile.read_text(encoding='utf-8'), costs),
            encoding='utf-8')
        readme.write_text(
            set_table(readme.read_text(encoding='utf-8'), table_of(models)),
            encoding='utf-8')
        print(f'Wrote {metafile} and {readme}')


def main() -> None:
    """Measure all folders asked for."""
    args = parse_args()
    register_all_modules(init_default_scope=True)
    for folder in args.folders:
        measure(folder, args.write)


if __name__ == '__main__':
    main()
