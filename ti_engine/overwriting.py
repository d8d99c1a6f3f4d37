"""Networks that add in place to what autograd keeps for their gradient."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


def overwriting_allowed() -> AbstractContextManager[Any]:
    """While this lasts autograd keeps copies, but of weights, so that a network may overwrite what it has kept.

    Forward has to happen inside. The originals are free as soon as the network lets go of them, so this costs time to
    copy and hardly any memory. torch's own guard for it, which copies only what is overwritten, is a dispatch mode, in
    which tensor classes of others (GGUF weights) do not work, and has to be open at the backward too.
    """
    return saved_tensors_hooks(_copy, lambda kept: kept)


def _copy(tensor: Tensor) -> Tensor:
    # A layer may keep a view of its weight.
    if isinstance(tensor if tensor._base is None else tensor._base, nn.Parameter):
        return tensor
    # An expanded tensor (a mask for all heads) stays one.
    once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.stride())
    return _twin(tensor.detach()[once]).expand(tensor.shape)


def _twin(tensor: Tensor) -> Tensor:
    """A copy, its rows as far apart where they are padded: attention on a GPU pads a mask's rows to multiples of 8, and
    its backward refuses others.
    """
    if tensor.ndim < 2 or tensor.stride(-1) != 1 or not 0 < tensor.stride(-2) - tensor.shape[-1] < _LONGEST_PADDING:
        return tensor.clone()
    padded = tensor.new_empty(*tensor.shape[:-1], tensor.stride(-2))
    return padded[..., : tensor.shape[-1]].copy_(tensor)


_LONGEST_PADDING = 16  # elements
