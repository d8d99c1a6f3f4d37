"""Makes `toy` importable by the tests of this folder; pytest's importlib mode puts no test folder on sys.path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
