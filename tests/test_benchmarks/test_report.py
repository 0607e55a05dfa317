"""Results as JSON, Markdown and plots."""
import json

import pytest
from PIL import Image

from mmdet_centernet2.benchmarks.plots import draw, points
from mmdet_centernet2.benchmarks.report import (Report, SectionResult,
                                                duration, fill_blocks, marks,
                                                rows_table)
from mmdet_centernet2.benchmarks.section import Plot, Row, Section
from mmdet_centernet2.benchmarks.sections import SECTIONS
from mmdet_centernet2.benchmarks.timing import Speedup, Timing
from tests.paths import ROOT

ROWS = [
    Row('7 objects', 'dense', Timing((0.2, 0.4, 0.3)),
        numbers={'objects': 7, 'extra memory (MB)': 9.234}),
    Row('7 objects', 'ours', Timing((0.002, 0.004, 0.003)),
        Speedup(100., 99.), {'objects': 7, 'extra memory (MB)': 0.21}),
    Row('2,000 objects', 'dense', Timing((20., 21., 22.)),
        numbers={'objects': 2000, 'extra memory (MB)': 2800.}),
]
PLOT = Plot('growth.png', 'Growth', 'objects')
SECTION = Section('targets', 'What is measured.', lambda context: ROWS,
                  plots=(PLOT, ))


def report(*results):
    return Report('python speed.py --quick', dict(CPU='one', torch='2.9'),
                  dict(quick=True, rounds=3), list(results))


def test_json_holds_every_round(tmp_path):
    report(SectionResult(SECTION, ROWS, 12.)).write_json(tmp_path / 'a.json')
    content = json.loads((tmp_path / 'a.json').read_text())
    assert content['command'] == 'python speed.py --quick'
    assert content['environment'] == dict(CPU='one', torch='2.9')
    first, second, _ = content['sections']['targets']['rows']
    assert first['seconds'] == [0.2, 0.4, 0.3]
    assert first['median'] == 0.3
    assert first['speedup'] is None
    assert second['speedup'] == dict(of_medians=100., of_pairs=99.)
    assert second['numbers']['objects'] == 7


def test_markdown_table():
    lines = rows_table(ROWS).splitlines()
    assert lines[0] == ('| work | what | median | quartiles | times as fast '
                        '(medians; pairs) | objects | extra memory (MB) |')
    assert lines[2] == ('| 7 objects | dense | 300 ms | 250 ms to 350 ms | 1 '
                        '| 7 | 9.23 |')
    assert lines[3] == ('| 7 objects | ours | 3 ms | 2.5 ms to 3.5 ms '
                        '| **100**; 99 | 7 | 0.21 |')
    assert lines[4].endswith('| 2,000 | 2,800 |')


def test_table_has_no_empty_columns():
    row = Row('limits', 'copy', numbers={'GB/s': 12.5})
    assert rows_table([row]) == ('| work | what | GB/s |\n| --- | --- | --- |'
                                 '\n| limits | copy | 12.5 |')


@pytest.mark.parametrize('seconds, text', [
    (123.4, '123 s'), (1.234, '1.23 s'), (0.0123456, '12.3 ms'),
    (0.000045, '45 us')])
def test_durations_have_a_unit_that_suits(seconds, text):
    assert duration(seconds) == text


def test_a_failed_section_says_so_and_leaves_the_others(tmp_path):
    failed = SectionResult(
        Section('train', 'Steps.', lambda context: []), error='no memory')
    report(failed, SectionResult(SECTION, ROWS)).write_markdown(
        tmp_path / 'a.md')
    text = (tmp_path / 'a.md').read_text()
    assert '**Failed:** no memory' in text
    assert '| 7 objects | ours |' in text
    assert '![Growth](images/growth.png)' in text


def test_what_failed_leaves_the_document_alone():
    failed = SectionResult(
        Section('train', 'Steps.', lambda context: []), error='no memory')
    blocks = report(failed, SectionResult(SECTION, ROWS)).markdown_blocks()
    assert list(blocks) == ['run', 'targets']
    assert '`python speed.py --quick`' in blocks['targets']


def test_blocks_of_a_document_are_filled_again_and_again():
    begin, end = marks('targets')
    text = f'before\n{begin}\nold\n{end}\nafter {marks("gpu")[0]}'
    blocks = dict(targets='new \\1', train='nowhere')
    filled = fill_blocks(text, blocks)
    assert filled == (f'before\n{begin}\n\nnew \\1\n\n{end}\n'
                      f'after {marks("gpu")[0]}')
    assert fill_blocks(filled, blocks) == filled


def test_the_page_has_a_place_for_every_section():
    page = (ROOT / 'docs/speed.md').read_text()
    for name in ('run', *SECTIONS):
        begin, end = marks(name)
        assert page.count(begin) == page.count(end) == 1
        assert page.index(begin) < page.index(end)


def test_an_open_block_is_an_error():
    with pytest.raises(ValueError, match='end of speed: gpu'):
        fill_blocks(f'{marks("gpu")[0]} ...', dict(gpu='table'))


def test_plot(tmp_path):
    assert points(PLOT, ROWS) == dict(
        dense=[(7, 300.), (2000, 21000.)], ours=[(7, 3.)])
    memory = Plot('m.png', 'Memory', 'objects', 'extra memory (MB)',
                  lambda row: row.contestant == 'dense')
    assert points(memory, ROWS) == dict(dense=[(7, 9.234), (2000, 2800.)])
    with Image.open(draw(PLOT, ROWS, tmp_path)) as picture:
        assert picture.format == 'PNG'
        assert len(picture.convert('L').getcolors()) > 10  # lines are drawn
