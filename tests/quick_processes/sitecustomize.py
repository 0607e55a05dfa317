"""For processes that tests start: two slow steps of the libraries are left out.

Python imports it where this folder is in ``PYTHONPATH``.
"""

import sys
from types import ModuleType

# mmengine formats a config several times.
stub = ModuleType('yapf.yapflib.yapf_api')
stub.FormatCode = lambda text, **options: (text, True)
sys.modules[stub.__name__] = stub
# mmdet can do without it, but for analyze_logs.py.
sys.modules['seaborn'] = None
