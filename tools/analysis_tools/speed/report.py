"""Results as JSON, Markdown and plots."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .section import Number, Plot, Result, Row


def write(
    folder: Path,
    command: str,
    environment: Mapping[str, str],
    options: Mapping[str, Number],
    results: Sequence[Result],
) -> None:
    """Write speed.json, speed.md and the plots of the last result."""
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    content = dict(
        command=command,
        environment=environment,
        options=options,
        sections={
            result.section.name: dict(
                rows=[row.as_dict() for row in result.rows],
                seconds=result.seconds,
                error=result.error,
            )
            for result in results
        },
    )
    (folder / 'speed.json').write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
    blocks = [run_block(command, environment), *map(section_block, results)]
    (folder / 'speed.md').write_text('# Speed\n\n' + '\n\n'.join(blocks) + '\n', encoding='utf-8')
    draw(results[-1], folder / 'images')


def fill_document(path: Path, command: str, environment: Mapping[str, str], result: Result) -> None:
    """Put what was measured between the marks of a Markdown document."""
    if result.error:
        return
    made = f'*{environment["date"]}, `{command}`*'
    text = path.read_text(encoding='utf-8')
    text = fill(text, 'run', run_block(command, environment))
    text = fill(text, result.section.name, f'{section_block(result)}\n\n{made}')
    path.write_text(text, encoding='utf-8')
    draw(result, path.parent / 'images')


def fill(text: str, name: str, block: str) -> str:
    """Replace what is between two marks, if there are any."""
    begin, end = f'<!-- speed: {name} -->', f'<!-- end of speed: {name} -->'
    return re.sub(
        f'{re.escape(begin)}.*?{re.escape(end)}',
        lambda _: f'{begin}\n\n{block}\n\n{end}',
        text,
        count=1,
        flags=re.DOTALL,
    )


def run_block(command: str, environment: Mapping[str, str]) -> str:
    """The command and the machine."""
    table = markdown_table(('environment', ''), environment.items())
    return f'```bash\n{command}\n```\n\n{table}'


def section_block(result: Result) -> str:
    """A section's sentence, table and plots."""
    section = result.section
    parts = [f'### `{section.name}`', section.help]
    if result.error:
        return '\n\n'.join([*parts, f'**Failed:** {result.error}'])
    plots = [f'![{plot.title}](images/{plot.file})' for plot in section.plots]
    return '\n\n'.join([*parts, rows_table(result.rows), *plots])


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
        lines.append(
            [
                row.work,
                row.contestant,
                *times * timed,
                *[ratio] * bool(compared),
                *[_shown(row.numbers.get(key, '')) for key in numbers],
            ]
        )
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


def draw(result: Result, folder: Path) -> None:
    """Draw a section's plots."""
    folder.mkdir(exist_ok=True)
    for plot in () if result.error else result.section.plots:
        figure = plot_rows(plot, result.rows)
        figure.savefig(folder / plot.file, dpi=120)


def plot_rows(plot: Plot, rows: Sequence[Row]) -> Figure:
    """A line for each contestant, both axes in logs."""
    lines: dict[str, list] = {}
    for row in rows:
        if plot.x in row.numbers and plot.only in row.work:
            y = row.timing.median * 1e3 if plot.y == 'ms' else row.numbers[plot.y]
            lines.setdefault(row.contestant, []).append((row.numbers[plot.x], y))
    figure = Figure(figsize=(6.4, 4), layout='constrained')
    axes = figure.add_subplot(
        xscale='log',
        yscale='log',
        title=plot.title,
        xlabel=plot.x,
        ylabel='median time (ms)' if plot.y == 'ms' else plot.y,
    )
    for name, line in lines.items():
        axes.plot(*zip(*sorted(line)), marker='o', label=name)
    ticks = sorted({x for line in lines.values() for x, _ in line})
    axes.set_xticks(ticks, [f'{x:,g}' for x in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
