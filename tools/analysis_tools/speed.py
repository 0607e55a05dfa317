"""Measure speed and memory: ours, mmdet's detectors, dense methods.

    tools/analysis_tools/speed.py [--quick] [--sections NAME ...]

Writes speed.json, speed.md and the plots into --out-dir after every section.
What is measured and how to read it: docs/speed.md.
"""

import sys
from pathlib import Path

# the dense methods are in tests/reference
sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

from speed.main import main  # noqa: E402  the folder beside this file

if __name__ == '__main__':
    sys.exit(main(__doc__))
