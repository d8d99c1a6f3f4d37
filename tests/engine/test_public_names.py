"""The names that the engine's front door offers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_public_name_of_the_engine_is_found_and_no_other() -> None:
    code = (
        "import ti_engine\n"
        "print(all(getattr(ti_engine, name) is not None for name in ti_engine.__all__))\n"
        "print(hasattr(ti_engine, 'no_such_name'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["True", "False"], done.stderr
