"""What comments cite can be opened, and what the docs name is there."""

import re

import pytest

from tests.paths import CONFIGS, ROOT

DIFFERENCES = (ROOT / 'docs' / 'differences.md').read_text(encoding='utf8')
FOLDERS = ('mmdet_centernet2', 'configs', 'docs', 'tests', 'tools')
ENDINGS = {'.py', '.md', '.sh', '.cfg', '.toml'}
#: A section or a question of a document that is not in the repository.
PRIVATE = re.compile(r'spec [§]|\bQ[0-9]{1,2}\b')
CITATION = re.compile(r'docs/differences\.md,\s+((?:\d+|,|and|to|\s)+)')


@pytest.fixture(scope='module')
def texts():
    """Text of every file of the project, by its path."""
    paths = [*ROOT.glob('*')]
    for folder in FOLDERS:
        paths += (ROOT / folder).rglob('*')
    return {
        path.relative_to(ROOT): path.read_text(encoding='utf8')
        for path in paths
        if path.suffix in ENDINGS and path.is_file()
    }


def test_nothing_private_is_cited(texts):
    found = {
        f'{path}: {match.group()}'
        for path, text in texts.items()
        for match in PRIVATE.finditer(text)
    }
    assert not found


def test_cited_differences_exist(texts):
    numbers = set(re.findall(r'^(\d+)\. \*\*', DIFFERENCES, re.M))
    assert numbers == {str(n) for n in range(1, len(numbers) + 1)}
    cited = {
        number
        for text in texts.values()
        # without the marks that begin a comment's next line
        for match in CITATION.finditer(re.sub(r'\n\s*#', '\n', text))
        for number in re.findall(r'\d+', match.group(1))
    }
    assert cited and cited <= numbers


def test_differences_name_what_is_here(texts):
    """Classes, functions and config keys of the list of kept traps."""
    kept = DIFFERENCES.split('## A. ')[1].split('\nSwitches of')[0]
    places = re.findall(r'\bhere\s+(.+?)(?=\n\d+\. |\n\n|\Z)', kept, re.S)
    assert len(places) == len(re.findall(r'^\d+\. ', kept, re.M))
    code = '\n'.join(
        f'{path}\n{text}'
        for path, text in texts.items()
        if path.parts[0] in ('mmdet_centernet2', CONFIGS.name)
    )
    for name in re.findall(r'`([^`]+)`', ' '.join(places)):
        for part in name.split('.') if '/' not in name else [name]:
            assert part in code, name
