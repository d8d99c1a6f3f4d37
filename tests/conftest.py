"""Import the two packages the way their users do, keeping the repository's root off sys.path.

The root holds a folder called `nodes`; on sys.path it would hide ComfyUI's own `nodes.py`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def load_package(name: str, folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec and spec.loader
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


load_package("ti_engine", ROOT / "ti_engine")  # as pip's users import it
load_package("ti_plugin", ROOT)  # as ComfyUI loads it, under a name of its choosing
