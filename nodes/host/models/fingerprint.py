"""Which weights a word was learned with, in so many letters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from .quantised import is_quantised, parts_of

# Of each tensor 256 numbers, enough to tell two trainings apart: from few places, evenly spaced, because a page of a
# file that is not in memory yet costs more than the numbers in it.
_PLACES, _NEIGHBOURS = 16, 16
# Files of SD1 and SDXL hold none, and the host leaves it with what was in memory, another at each start. Encoders of
# models that read it, such as SD3, differ in their other weights, too.
_WITHOUT_VALUES = "clip_l.transformer.text_projection.weight"


def weights_fingerprint(patchers: Iterable[Any]) -> str:
    """SHA-256 in hex over the name, shape, dtype and some numbers of every parameter, and over its patches.

    The host knows no file of a MODEL, and hashing all weights of a large one takes a minute. The same whether the host
    has worked the patches into the weights, or applies them whenever a layer runs. Of other packs' own kinds of tensors
    (GGUF), and of parameters that no file gives a value, only name, shape and dtype count.
    """
    digest = hashlib.sha256()
    for patcher in patchers:
        for name, parameter in patcher.model.named_parameters():
            original = patcher.backup[name].weight if name in patcher.backup else parameter
            digest.update(f"{name} {tuple(original.shape)} {original.dtype}".encode())
            values = () if name == _WITHOUT_VALUES else (original,)
            for part in (*values, *_parts(patcher.patches.get(name, ()))):
                digest.update(_sample(part) if isinstance(part, Tensor) else str(part).encode())
    return digest.hexdigest()


def _sample(tensor: Tensor) -> bytes:
    if is_quantised(tensor):
        return b"".join(_sample(part) for part in parts_of(tensor))
    if type(tensor.data) is not Tensor or tensor.is_meta:
        return b""
    flat = tensor.detach().reshape(-1)
    between = len(flat) // _PLACES
    some = flat if between < _NEIGHBOURS else flat[: between * _PLACES].view(_PLACES, between)[:, :_NEIGHBOURS]
    return some.to("cpu", torch.float32).numpy().tobytes()


def _parts(patch: Any) -> Iterator[Tensor | str | float]:
    """Tensors, names and strengths of the host's patches: nested tuples, and objects that keep theirs as weights."""
    if isinstance(patch, (Tensor, str, int, float)):
        yield patch
    elif isinstance(patch, (tuple, list)):
        for part in patch:
            yield from _parts(part)
    elif hasattr(patch, "weights"):
        yield type(patch).__name__
        yield from _parts(patch.weights)
