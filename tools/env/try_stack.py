"""Try one cell of the table of tested versions in docs/install.md.

``try_stack.py PYTHON STACK [PACKAGE==VERSION...]`` sets up a copy of this clone
with another Python, stack or versions, and runs the tests that say most: the
import, the models, a training and an export. The last line says how it went.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = ('backbones', 'dense_heads', 'layers', 'losses', 'necks', 'ops', 'roi_heads')
TESTS = (
    'tests/test_utils/test_versions.py',
    *(f'tests/test_models/test_{part}' for part in MODELS),
    'tests/test_tools/test_terminal.py::test_a_training_starts_in_few_lines',
    'tests/test_deploy/test_export.py::test_static_graph_of_two_images',
)


def main(python: str, stack: str, *pins: str) -> int:
    with tempfile.TemporaryDirectory(prefix='try_stack_') as folder:
        subprocess.run(['git', 'clone', '-q', str(ROOT), folder], check=True)
        lock = Path(folder, 'requirements', 'constraints.txt')
        text = lock.read_text()
        for pin in pins:
            name = re.escape(pin.split('==')[0])
            text, count = re.subn(rf'(?m)^{name}==.*(\n{name}==.*)*', pin, text)
            assert count == 1, f'{name} is not in {lock}'
        lock.write_text(text)
        command = ['bash', 'tools/run_tests.sh', '--stack', stack, '-n', '0', *TESTS]
        environment = {**os.environ, 'PYTHON': python}
        status = subprocess.run(command, cwd=folder, env=environment).returncode
    print('cell:', python, stack, *pins, 'failed' if status else 'passed')
    return status


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
