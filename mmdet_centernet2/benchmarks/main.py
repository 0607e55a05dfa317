"""What ``tools/analysis_tools/speed.py`` does."""
from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import List, Optional, Sequence

import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import (BarColumn, MofNCompleteColumn, Progress,
                           SpinnerColumn, TextColumn, TimeElapsedColumn)

from mmdet_centernet2.benchmarks.environment import environment
from mmdet_centernet2.benchmarks.plots import draw
from mmdet_centernet2.benchmarks.report import (Report, SectionResult,
                                                fill_blocks, section_block)
from mmdet_centernet2.benchmarks.runner import run_section
from mmdet_centernet2.benchmarks.section import Context, Section
from mmdet_centernet2.benchmarks.sections import SECTIONS

NO_GPU = ('needs a GPU, and torch sees none on this machine: nothing of it '
          'was measured')


def choose(names: Optional[Sequence[str]], has_gpu: bool) -> List[Section]:
    """Sections to run, in their order.

    Args:
        names (Sequence[str], optional): What was asked for; None is all that
            the machine can.
        has_gpu (bool): Whether torch sees a GPU.
    """
    if names is None:
        return [s for s in SECTIONS.values() if has_gpu or not s.gpu]
    return [section for name, section in SECTIONS.items() if name in names]


def measure(args: Namespace, command: str) -> int:
    """Run sections and write what comes of them, after each.

    Args:
        args (Namespace): Of the command line.
        command (str): The command line, for the report.

    Returns:
        int: 1 if a section failed, else 0.
    """
    console = Console()
    about = environment()
    has_gpu = torch.cuda.is_available()
    rounds = args.rounds or (2 if args.quick else 5)
    report = Report(command, about, dict(quick=args.quick, rounds=rounds))
    for name, value in about.items():
        console.print(f'{name}: {value}', highlight=False)
    if not has_gpu and not args.sections:
        console.print(f'section gpu {NO_GPU}.')
    with _progress(console) as progress:
        sections = choose(args.sections, has_gpu)
        task = progress.add_task('', total=len(sections))
        for section in sections:
            result = _one(section, args.quick, rounds, has_gpu,
                          lambda text, name=section.name: progress.update(
                              task, description=f'{name}: {text}'))
            report.results.append(result)
            _write(report, args.out_dir, args.write_docs)
            progress.advance(task)
            _show(console, section_block(result))
    console.print(f'Wrote {args.out_dir}/speed.json, speed.md and images/',
                  highlight=False)
    return int(any(result.error for result in report.results))


def _show(console: Console, block: str) -> None:
    """Tables are drawn where there is room for them."""
    wide = console.is_terminal and console.width >= 120
    console.print(Markdown(block)) if wide else console.out(
        f'\n{block}\n', highlight=False)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(), BarColumn(bar_width=20), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn('{task.description}'),
        console=console)


def _one(section: Section, quick: bool, rounds: int, has_gpu: bool,
         say) -> SectionResult:
    if section.gpu and not has_gpu:
        return SectionResult(section, error=NO_GPU)
    say('starts')
    device = 'cuda' if section.gpu else 'cpu'
    return run_section(section, Context(quick, rounds, device, say))


def _write(report: Report, folder: Path, docs: Optional[Path]) -> None:
    """Write all results so far."""
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    report.write_json(folder / 'speed.json')
    report.write_markdown(folder / 'speed.md')
    _draw(report.results[-1], folder / 'images')
    if docs is not None:
        docs.write_text(
            fill_blocks(docs.read_text(encoding='utf-8'),
                        report.markdown_blocks()), encoding='utf-8')
        (docs.parent / 'images').mkdir(exist_ok=True)
        _draw(report.results[-1], docs.parent / 'images')


def _draw(result: SectionResult, folder: Path) -> None:
    for plot in result.section.plots if not result.error else ():
        draw(plot, result.rows, folder)
