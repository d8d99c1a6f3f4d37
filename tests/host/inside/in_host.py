"""What the tests inside the host share."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

REFERENCE = Path(os.environ["TI_INSIDE_HOST"])  # a folder that tests/host/reference_tensors.py has filled


def plugin(name: str) -> ModuleType:
    """A module of the pack as the host has loaded it."""
    return importlib.import_module(f"ti_plugin.{name}")
