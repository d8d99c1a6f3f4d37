"""Import the two packages the way their users do, keeping the repository's root off sys.path.

The root holds a folder called `nodes`; on sys.path it would hide ComfyUI's own `nodes.py`.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Read when torch is loaded: threads that wait for each other sleep, or tests with several never end on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def load_package(name: str, folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec and spec.loader
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


load_package("ti_engine", ROOT / "ti_engine")  # as pip's users import it
load_package("ti_plugin", ROOT)  # as ComfyUI loads it, under a name of its choosing


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Every core has something else to compute, too."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    yield
    for process in others:
        process.kill()
        process.wait()
