"""How costs grow, drawn."""
from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from matplotlib.figure import Figure

from mmdet_centernet2.benchmarks.section import Plot, Row

Points = List[Tuple[float, float]]


def points(plot: Plot, rows: Sequence[Row]) -> Dict[str, Points]:
    """What is drawn: (x, y) of each contestant, ascending in x."""
    lines: Dict[str, Points] = {}
    for row in rows:
        if plot.x in row.numbers and plot.only(row):
            lines.setdefault(row.contestant, []).append(
                (row.numbers[plot.x], _height(plot, row)))
    return {name: sorted(line) for name, line in lines.items()}


def _height(plot: Plot, row: Row) -> float:
    return row.timing.median * 1e3 if plot.y == 'ms' else row.numbers[plot.y]


def draw(plot: Plot, rows: Sequence[Row], folder: Path) -> Path:
    """Draw one plot.

    Args:
        plot (Plot): What to draw.
        rows (Sequence[Row]): Of its section.
        folder (Path): To write the PNG into.

    Returns:
        Path: The PNG.
    """
    figure = Figure(figsize=(6.4, 4), layout='constrained')
    axes = figure.add_subplot(
        xscale='log', yscale='log', title=plot.title, xlabel=plot.x,
        ylabel='median time (ms)' if plot.y == 'ms' else plot.y)
    ticks = set()
    for name, line in points(plot, rows).items():
        xs, ys = zip(*line)
        ticks.update(xs)
        axes.plot(xs, ys, marker='o', label=name)
    axes.set_xticks(sorted(ticks), [f'{x:,g}' for x in sorted(ticks)])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    if ticks:
        axes.legend()
    path = folder / plot.file
    figure.savefig(path, dpi=120)
    return path
