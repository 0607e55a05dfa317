"""Results as JSON and as Markdown."""
from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Sequence, Set

from mmdet_centernet2.benchmarks.section import Number, Row, Section

SCHEMA = 1


@dataclass
class SectionResult:
    """What came of a section.

    Args:
        section (Section): Which one.
        rows (list[Row]): Empty if it failed.
        seconds (float): It took.
        error (str): Why it failed; empty if it did not.
    """

    section: Section
    rows: List[Row] = field(default_factory=list)
    seconds: float = 0.
    error: str = ''


@dataclass
class Report:
    """One run of the benchmark.

    Args:
        command (str): That made it.
        environment (Mapping[str, str]): Machine and versions.
        options (Mapping[str, int | float | str]): How much was measured.
        results (list[SectionResult]): In the order in which they were run.
    """

    command: str
    environment: Mapping[str, str]
    options: Mapping[str, Number]
    results: List[SectionResult] = field(default_factory=list)

    def write_json(self, path: Path) -> None:
        """Write everything, every round's time included."""
        content = dict(
            schema=SCHEMA,
            command=self.command,
            environment=dict(self.environment),
            options=dict(self.options),
            sections={
                result.section.name: dict(
                    rows=[row.as_dict() for row in result.rows],
                    seconds=result.seconds,
                    error=result.error)
                for result in self.results
            })
        path.write_text(json.dumps(content, indent=1) + '\n',
                        encoding='utf-8')

    def markdown_blocks(self) -> Dict[str, str]:
        """Parts of the Markdown by name: 'run', then each section's.

        Those of sections that failed are left out.
        """
        blocks = {'run': self._run_block()}
        made = f'*{self.environment.get("date", "")}, `{self.command}`*'
        for result in self.results:
            if not result.error:
                blocks[result.section.name] = (
                    f'{section_block(result)}\n\n{made}')
        return blocks

    def _run_block(self) -> str:
        table = markdown_table(('environment', ''), self.environment.items())
        return f'```bash\n{self.command}\n```\n\n{table}'

    def write_markdown(self, path: Path) -> None:
        """Write the tables."""
        text = '\n\n'.join(
            [self._run_block(), *map(section_block, self.results)])
        path.write_text(f'# Speed\n\n{text}\n', encoding='utf-8')


def section_block(result: SectionResult) -> str:
    """A section's sentence and table."""
    section = result.section
    body = (f'**Failed:** {result.error}' if result.error else
            rows_table(result.rows))
    plots = [] if result.error else [
        f'![{plot.title}]({plot_path(plot.file)})' for plot in section.plots
    ]
    return '\n\n'.join(
        [f'### `{section.name}`', section.help, body, *plots])


def plot_path(file: str) -> str:
    """Where the Markdown looks for a plot; beside it is ``images/``."""
    return f'images/{file}'


def rows_table(rows: Sequence[Row]) -> str:
    """Markdown table of rows; only the columns that something is in."""
    numbers = list(dict.fromkeys(key for row in rows for key in row.numbers))
    timed = any(row.timing for row in rows)
    compared = {row.work for row in rows if row.speedup}
    header = ['work', 'what']
    header += ['median', 'quartiles'] if timed else []
    header += ['times as fast (medians; pairs)'] if compared else []
    return markdown_table(
        header + numbers,
        (_cells(row, timed, compared, numbers) for row in rows))


def _cells(row: Row, timed: bool, compared: Set[str],
           numbers: Sequence[str]) -> List[str]:
    cells = [row.work, row.contestant]
    if timed:
        cells += _times(row)
    if compared and row.speedup:
        cells.append(f'**{row.speedup.of_medians:.3g}**; '
                     f'{row.speedup.of_pairs:.3g}')
    elif compared:  # the reference, or nothing to compare with
        cells.append('1' if row.timing and row.work in compared else '')
    return cells + [_shown(row.numbers.get(key, '')) for key in numbers]


def _times(row: Row) -> List[str]:
    if row.timing is None:
        return ['', '']
    spread = ' to '.join(duration(s) for s in row.timing.quartiles)
    return [duration(row.timing.median), spread]


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


def markdown_table(header: Sequence[str],
                   rows: Iterable[Sequence[str]]) -> str:
    """Markdown table of texts."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def fill_blocks(text: str, blocks: Mapping[str, str]) -> str:
    """Put blocks between their marks in a document.

    Marks are ``<!-- speed: NAME -->`` and ``<!-- end of speed: NAME -->``.
    What the document has no marks for is left out, marks that there is no
    block for keep what they hold.

    Args:
        text (str): The document.
        blocks (Mapping[str, str]): Of :meth:`Report.markdown_blocks`.

    Raises:
        ValueError: If a block is not closed.
    """
    for name, block in blocks.items():
        begin, end = marks(name)
        if begin not in text:
            continue
        pattern = re.escape(begin) + '.*?' + re.escape(end)
        text, filled = re.subn(
            pattern, lambda _, new=f'{begin}\n\n{block}\n\n{end}': new, text,
            count=1, flags=re.DOTALL)
        if not filled:
            raise ValueError(f'"{begin}" has no "{end}" after it')
    return text


def marks(name: str) -> tuple[str, str]:
    """Begin and end of a block in a document."""
    return f'<!-- speed: {name} -->', f'<!-- end of speed: {name} -->'
