"""Networks that add in place to what autograd keeps for their gradient."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.weak import WeakTensorKeyDictionary

Keep = Callable[[Tensor], Tensor]
"""From a tensor to what autograd keeps in its place."""


@contextmanager
def overwriting_allowed(is_weight: Callable[[Tensor], bool] = lambda _: False) -> Iterator[Keep]:
    """While this lasts autograd keeps copies, but of weights, so that a network may overwrite what it has kept.

    Gives the function that makes the copies. is_weight: tells those weights that are no parameters, such as ones in
    another precision than the layer holds.

    Forward has to happen inside. The originals are free as soon as the network lets go of them, so this costs time to
    copy and hardly any memory. torch's allow_mutation_on_saved_tensors, which copies only what is overwritten, is a
    dispatch mode, which is slower and in which tensor classes of others (GGUF weights) do not work; it would have to be
    open at the backward too. Of a tensor that is written to behind autograd's back (`.data`) the former content may be
    kept, as autograd itself would do.
    """
    made: Any = WeakTensorKeyDictionary()  # original -> its version then, and its copy

    def keep(tensor: Tensor) -> Tensor:
        # A layer may keep a view of its weight. One that is made of others is a quantised weight, perhaps fetched for
        # this call, of which a copy would be as large as if it were not.
        owner = tensor if tensor._base is None else tensor._base
        if isinstance(owner, nn.Parameter) or is_weight(owner) or hasattr(tensor, "__tensor_flatten__"):
            return tensor
        version, copy = made.get(tensor, (None, lambda: None))
        known = copy() if version == tensor._version else None
        if known is None:  # what many layers keep (T5's table of distances) is copied for the first one
            known = _copy(tensor)
            made[tensor] = tensor._version, weakref.ref(known)
        return known

    with saved_tensors_hooks(keep, lambda kept: kept):
        yield keep


def _copy(tensor: Tensor) -> Tensor:
    # An expanded tensor (a mask for all heads) stays one.
    once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.stride())
    return _copy_with_padding(tensor.detach()[once]).expand(tensor.shape)


def _copy_with_padding(tensor: Tensor) -> Tensor:
    """A copy, its rows as far apart where they are padded: attention on a GPU pads a mask's rows to multiples of 8, and
    its backward refuses others.
    """
    *others, columns = tensor.shape or [0]
    # From one row to the next, in whatever dimension there is more than one.
    strides = tensor.stride()[-2::-1]
    apart = next((stride for stride, size in zip(strides, reversed(others), strict=True) if size > 1), 0)
    if not 0 < apart - columns < _LONGEST_PADDING or tensor.stride(-1) != 1:
        return tensor.clone()
    return tensor.new_empty(*others, apart)[..., :columns].copy_(tensor)


_LONGEST_PADDING = 16  # elements
