"""Which weights a word was learned with, in so many letters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import nn

_NUMBERS = 256  # of each tensor, evenly spaced: enough to tell two trainings apart, at no cost for any size


def weights_fingerprint(modules: Iterable[nn.Module]) -> str:
    """SHA-256 in hex over the name, shape, dtype and some numbers of every parameter, as they are loaded now.

    The host knows no file of a MODEL, and hashing all weights of a large one takes a minute. Patches count; of
    quantised tensors only name, shape and dtype do.
    """
    digest = hashlib.sha256()
    for module in modules:
        for name, parameter in module.named_parameters():
            digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
            if type(parameter.data) is torch.Tensor:
                flat = parameter.detach().reshape(-1)
                some = flat[:: max(1, len(flat) // _NUMBERS)][:_NUMBERS]
                digest.update(some.to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()
