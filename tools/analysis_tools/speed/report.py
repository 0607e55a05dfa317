"""Results as JSON, Markdown and plots."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .section import Number, Plot, Row, Section


def write(
    folder: Path,
    command: str,
    environment: Mapping[str, str],
    options: Mapping[str, Number],
    sections: Sequence[Section],
) -> None:
    """Write speed.json, speed.md and the plots of the last section."""
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    found = {
        s.name: dict(rows=[row.as_dict() for row in s.rows], seconds=s.seconds, error=s.error)
        for s in sections
    }
    content = dict(command=command, environment=environment, options=options, sections=found)
    (folder / 'speed.json').write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
    blocks = [run_block(command, environment), *map(section_block, sections)]
    (folder / 'speed.md').write_text('# Speed\n\n' + '\n\n'.join(blocks) + '\n', encoding='utf-8')
    draw(sections[-1], folder / 'images')


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
    found = [f'**Failed:** {section.error}']
    if not section.error:
        plots = [f'![{plot.title}](images/{plot.file})' for plot in section.plots]
        found = [rows_table(section.rows), *plots]
    return '\n\n'.join([f'### `{section.name}`', section.help, *found])


def rows_table(rows: Sequence[Row]) -> str:
    """Markdown table of rows; only the columns that something is in."""
    numbers = list(dict.fromkeys(key for row in rows for key in row.numbers))
    timed = any(row.timing for row in rows)
    compared = {row.work for row in rows if row.speedup}
    header = ['work', 'what']
    header += ['median', 'quartiles'] if timed else []
    header += ['times as fast (medians; pairs)'] if compared else []
    lines = []
    for row in rows:
        times, ratio = ['', ''], ''
        if row.timing:
            times = [duration(row.timing.median), ' to '.join(map(duration, row.timing.quartiles))]
            ratio = '1' if row.work in compared else ''  # the reference
        if row.speedup:
            ratio = '**{:.3g}**; {:.3g}'.format(*row.speedup)
        shown = [_shown(row.numbers.get(key, '')) for key in numbers]
        ratios = [ratio] if compared else []
        lines.append([row.work, row.contestant, *(times if timed else []), *ratios, *shown])
    return markdown_table(header + numbers, lines)


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
    if not isinstance(value, float):
        return f'{value:,}' if isinstance(value, int) else str(value)
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'


def draw(section: Section, folder: Path) -> None:
    """Draw a section's plots."""
    folder.mkdir(exist_ok=True)
    for plot in () if section.error else section.plots:
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
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
