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


def snapshot(models):
    """Every parameter and buffer of the model and its encoders: the object and its bits."""
    return {
        (number, name): (tensor, tensor.detach().clone())
        for number, root in enumerate((models.model.model, models.clip.cond_stage_model))
        for name, tensor in [*root.named_parameters(), *root.named_buffers()]
    }
