"""Results as JSON, Markdown and plots."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .section import Number, Plot, Row, Section

RATIO = 'times as fast (medians; pairs)'
#: Columns, before those of what else was measured.
FIRST = ('work', 'what', 'median', 'quartiles', RATIO)


def write(
    folder: Path,
    command: str,
    environment: Mapping[str, str],
    options: Mapping[str, Number],
    sections: Sequence[Section],
) -> None:
    """Write speed.json, speed.md and the plots of the last section."""
    draw(sections[-1], folder / 'images')
    found = {s.name: dict(rows=s.rows, seconds=s.seconds, error=s.error) for s in sections}
    content = dict(command=command, environment=environment, options=options, sections=found)
    text = json.dumps(content, default=vars, indent=1)  # rows, timings
    (folder / 'speed.json').write_text(text + '\n', encoding='utf-8')
    blocks = [run_block(command, environment), *map(section_block, sections)]
    (folder / 'speed.md').write_text('# Speed\n\n' + '\n\n'.join(blocks) + '\n', encoding='utf-8')


def fill_document(
    path: Path, command: str, environment: Mapping[str, str], section: Section
) -> None:
    """Put what was measured between the marks of a Markdown document."""
    if section.error:
        return
    made = f'*{environment["date"]}, `{command}`*'
    text = fill(path.read_text(encoding='utf-8'), 'run', run_block(command, environment))
    text = fill(text, section.name, f'{section_block(section)}\n\n{made}')
    path.write_text(text, encoding='utf-8')
    draw(section, path.parent / 'images')


def fill(text: str, name: str, block: str) -> str:
    """Replace what is between two marks, if there are any."""
    begin, end = f'<!-- speed: {name} -->', f'<!-- end of speed: {name} -->'
    between = f'(?s){re.escape(begin)}.*?{re.escape(end)}'
    return re.sub(between, lambda _: f'{begin}\n\n{block}\n\n{end}', text, count=1)


def run_block(command: str, environment: Mapping[str, str]) -> str:
    """The command and the machine."""
    table = markdown_table(('environment', ''), environment.items())
    return f'```bash\n{command}\n```\n\n{table}'


def section_block(section: Section) -> str:
    """A section's sentence, table and plots."""
    plots = [f'![{plot.title}](images/{plot.file})' for plot in section.plots]
    found = f'**Failed:** {section.error}' if section.error else rows_table(section.rows)
    return '\n\n'.join([f'### `{section.name}`', section.help, found, *plots])


def rows_table(rows: Sequence[Row]) -> str:
    """Markdown table of rows; only the columns that something is in."""
    compared = {row.work for row in rows if row.speedup}
    lines = []
    for row in rows:
        line = dict(work=row.work, what=row.contestant)
        if row.timing:
            line['median'] = duration(row.timing.median)
            line['quartiles'] = ' to '.join(map(duration, row.timing.quartiles))
        if row.speedup:
            line[RATIO] = f'**{row.speedup.of_medians:.3g}**; {row.speedup.of_pairs:.3g}'
        elif row.work in compared:  # the reference
            line[RATIO] = '1'
        lines.append(line | {key: _shown(value) for key, value in row.numbers.items()})
    found = {key: None for line in lines for key in line}
    header = [key for key in FIRST if key in found]
    header += [key for key in found if key not in FIRST]
    return markdown_table(header, [[line.get(key, '') for key in header] for line in lines])


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown table of texts."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def duration(seconds: float) -> str:
    """Three digits and a unit that suits."""
    if seconds >= 1:
        return f'{seconds:.3g} s' if seconds < 100 else f'{seconds:.0f} s'
    if seconds >= 1e-3:
        return f'{seconds * 1e3:.3g} ms'
    return f'{seconds * 1e6:.3g} us'


def _shown(value: Number) -> str:
    if isinstance(value, str):
        return value
    return f'{value:,.0f}' if isinstance(value, int) or abs(value) >= 100 else f'{value:.3g}'


def draw(section: Section, folder: Path) -> None:
    """Draw a section's plots."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot in section.plots:
        plot_rows(plot, section.rows).savefig(folder / plot.file, dpi=120)


def plot_rows(plot: Plot, rows: Sequence[Row]) -> Figure:
    """A line for each contestant, both axes in logs."""
    lines: dict[str, list] = {}
    for row in rows:
        if plot.x in row.numbers and plot.only in row.work:
            y = row.timing.median * 1e3 if plot.y == 'ms' else row.numbers[plot.y]
            lines.setdefault(row.contestant, []).append((row.numbers[plot.x], y))
    figure = Figure(figsize=(6.4, 4), layout='constrained')
    y_label = 'median time (ms)' if plot.y == 'ms' else plot.y
    axes = figure.add_subplot(title=plot.title, xlabel=plot.x, ylabel=y_label)
    axes.set(xscale='log', yscale='log')
    for name, line in lines.items():
        axes.plot(*zip(*sorted(line)), marker='o', label=name)
    ticks = sorted({x for line in lines.values() for x, _ in line})
    axes.set_xticks(ticks, [f'{x:,g}' for x in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
