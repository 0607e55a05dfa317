"""Try one row of the table of tested versions in docs/install.md.

``try_stack.py PYTHON STACK [PACKAGE==VERSION...]`` sets up a copy of this clone
with another Python, stack or versions, and runs the tests that say most:
import, models, a training and its resuming, and an export.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = (
    'tests/test_utils/test_versions.py',
    'tests/test_models',
    'tests/test_tools/test_terminal.py',
    'tests/test_deploy/test_export.py',
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
        command = ['bash', 'tools/run_tests.sh', '--stack', stack, '-m', 'not dist', *TESTS]
        environment = {**os.environ, 'PYTHON': python}
        return subprocess.run(command, cwd=folder, env=environment).returncode


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
