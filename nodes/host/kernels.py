"""The host's fused kernels have no backward; for the time of a loan their plain twins stand in for them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_HOST_PACKAGE = "comfy"


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Rebinds every `comfy_kitchen` kernel for rotary embeddings, wherever the host has imported it, to its eager twin.

    Newer hosts have a flag for this (memory.in_training) that does not reach all of their models.
    """
    rebound: list[tuple[ModuleType, str, Any]] = []
    try:
        for original, plain in _twins():
            for name, module in list(sys.modules.items()):
                if module is None or name.partition(".")[0] not in (_HOST_PACKAGE, "comfy_kitchen"):
                    continue
                for attribute, value in list(vars(module).items()):
                    if value is original:
                        setattr(module, attribute, plain)
                        rebound.append((module, attribute, original))
        yield
    finally:
        for module, attribute, original in rebound:
            setattr(module, attribute, original)


def _twins() -> list[tuple[Any, Any]]:
    """Kernel and eager twin; empty on hosts without these kernels."""
    kitchen, eager = sys.modules.get("comfy_kitchen"), sys.modules.get("comfy_kitchen.backends.eager.rope")
    if kitchen is None or eager is None:
        return []
    shared = [name for name in vars(eager) if "rope" in name and hasattr(kitchen, name)]
    return [(getattr(kitchen, name), getattr(eager, name)) for name in shared]
