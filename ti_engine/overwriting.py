"""Networks that add in place to what autograd keeps for their gradient."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


def overwriting_allowed(is_weight: Callable[[Tensor], bool] = lambda _: False) -> AbstractContextManager[Any]:
    """While this lasts autograd keeps copies, but of weights, so that a network may overwrite what it has kept.

    is_weight: tells those that are no parameters, such as weights in another precision than the layer holds.

    Forward has to happen inside. The originals are free as soon as the network lets go of them, so this costs time to
    copy and hardly any memory. torch's own guard for it, which copies only what is overwritten, is a dispatch mode, in
    which tensor classes of others (GGUF weights) do not work, and has to be open at the backward too.
    """
    return saved_tensors_hooks(partial(_copy, is_weight), lambda kept: kept)


def _copy(is_weight: Callable[[Tensor], bool], tensor: Tensor) -> Tensor:
    whole = tensor if tensor._base is None else tensor._base  # a layer may keep a view of its weight
    if isinstance(whole, nn.Parameter) or is_weight(whole):
        return tensor
    # An expanded tensor (a mask for all heads) stays one.
    once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.stride())
    return tensor.detach()[once].clone().expand(tensor.shape)
