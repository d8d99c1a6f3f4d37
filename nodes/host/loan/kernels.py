"""For the time of a loan, the host computes in ways that a gradient comes through unharmed, and fast.

Its fused kernels have no backward, so their plain twins stand in for them; it multiplies in no fp8, no two layers share
a buffer for their weights, and all attention is torch's fused one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import comfy.model_management as memory
import comfy.ops
from comfy.ldm.modules import attention
from torch import nn

_HOST_PACKAGE = "comfy"


@contextmanager
def training_kernels() -> Iterator[None]:
    """The host computes with kernels that have a backward while this lasts."""
    # Newer hosts replace some of the others while this is set; older ones have no such flag.
    before = getattr(memory, "in_training", None)
    fp8_linear = getattr(comfy.ops, "fp8_linear", None)  # multiplies in fp8, where a gradient gets lost
    # With a stream of its own the host fetches one layer while another computes, newer ones through a buffer that is
    # overwritten before the gradient reads it. Without, every layer gets a copy that is its own.
    offload_stream = memory.get_offload_stream
    with differentiable_kernels():
        try:
            memory.get_offload_stream = lambda *_: None
            if fp8_linear is not None:
                setattr(comfy.ops, "fp8_linear", lambda *_: None)  # noqa: B010 - the layers then cast their weights
            if before is not None:
                memory.in_training = True  # pyright: ignore[reportAttributeAccessIssue]
            yield
        finally:
            memory.get_offload_stream = offload_stream
            if fp8_linear is not None:
                setattr(comfy.ops, "fp8_linear", fp8_linear)  # noqa: B010
            if before is not None:
                memory.in_training = before  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def weights_alone_quantised(roots: Iterable[nn.Module]) -> Iterator[None]:
    """Layers with quantised weights multiply in the model's own precision while this lasts.

    On cards that can, the host quantises what goes into them too, through which some versions let no gradient pass.
    """
    name = "_full_precision_mm"
    layers = [module for root in roots for module in root.modules() if vars(module).get(name) is False]
    try:
        for layer in layers:
            setattr(layer, name, True)
        yield
    finally:
        for layer in layers:
            setattr(layer, name, False)


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Rebinds every `comfy_kitchen` kernel for rotary embeddings, wherever the host has imported it, to its eager twin.

    Newer hosts have a flag for this (memory.in_training) that does not reach all of their models. Their attention is
    rebound too: text encoders and some models (PixArt, HunyuanDiT) are deaf to an override, and would compute with a
    written-out one on a CPU, or with whatever is switched on.

    Afterwards each name means what it did, unless somebody else rebound it meanwhile. A module of the host that was
    first loaded meanwhile, and took a twin by such a name, gets the original.
    """
    rebound: list[tuple[ModuleType, str, Any, Any]] = []
    before = set(sys.modules)
    try:
        for original, counterpart in _replacements():
            for module in _host_modules():
                for attribute, value in list(vars(module).items()):
                    if value is original:
                        setattr(module, attribute, counterpart)
                        rebound.append((module, attribute, original, counterpart))
        yield
    finally:
        names = {(attribute, id(counterpart)): original for _, attribute, original, counterpart in rebound}
        for module in _host_modules():
            if module.__name__ not in before:
                for attribute, value in list(vars(module).items()):
                    if (attribute, id(value)) in names:
                        setattr(module, attribute, names[attribute, id(value)])
        for module, attribute, original, counterpart in rebound:
            if getattr(module, attribute, None) is counterpart:
                setattr(module, attribute, original)


def _host_modules() -> list[ModuleType]:
    return [
        module
        for name, module in list(sys.modules.items())
        if module is not None and name.partition(".")[0] in (_HOST_PACKAGE, "comfy_kitchen")
    ]


def _replacements() -> list[tuple[Any, Any]]:
    """What stands in for what."""
    fused = attention.attention_pytorch
    twins: list[tuple[Any, Any]] = [(attention.optimized_attention_for_device, lambda *_, **__: fused)]
    twins += [(own, fused) for own in {attention.optimized_attention, attention.optimized_attention_masked} - {fused}]
    kitchen, eager = sys.modules.get("comfy_kitchen"), sys.modules.get("comfy_kitchen.backends.eager.rope")
    if kitchen is None or eager is None:  # a host without these kernels
        return twins
    shared = [name for name in vars(eager) if "rope" in name and hasattr(kitchen, name)]
    return twins + [(getattr(kitchen, name), getattr(eager, name)) for name in shared]
