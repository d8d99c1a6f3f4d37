"""Kernels for the time of a loan: plain twins of those without a backward, and torch's fused attention everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from comfy.ldm.modules import attention

_HOST_PACKAGE = "comfy"


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Rebinds every `comfy_kitchen` kernel for rotary embeddings, wherever the host has imported it, to its eager twin.

    Newer hosts have a flag for this (memory.in_training) that does not reach all of their models. Their attention is
    rebound too: text encoders and some models (PixArt, HunyuanDiT) are deaf to an override, and would compute with a
    written-out one on a CPU, or with whatever is switched on.
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
    """What stands in for what."""
    fused = attention.attention_pytorch
    twins: list[tuple[Any, Any]] = [(attention.optimized_attention_for_device, lambda *_, **__: fused)]
    twins += [(own, fused) for own in {attention.optimized_attention, attention.optimized_attention_masked} - {fused}]
    kitchen, eager = sys.modules.get("comfy_kitchen"), sys.modules.get("comfy_kitchen.backends.eager.rope")
    if kitchen is None or eager is None:  # a host without these kernels
        return twins
    shared = [name for name in vars(eager) if "rope" in name and hasattr(kitchen, name)]
    return twins + [(getattr(kitchen, name), getattr(eager, name)) for name in shared]
