"""Networks that add in place to what autograd keeps for their gradient."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode


@contextmanager
def overwriting_allowed() -> Iterator[None]:
    """What autograd keeps is cloned before it is overwritten; forward and backward have to happen inside.

    As torch.autograd.graph.allow_mutation_on_saved_tensors, which tells tensors by their address; here also for those
    without contents, so that memory is counted with the clones.
    """
    clones = _ClonesFirst()
    with saved_tensors_hooks(clones.keep, lambda kept: kept.tensor), clones:
        yield


class _Kept:
    """A tensor that autograd has saved."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class _ClonesFirst(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[tuple[int, int], weakref.WeakSet[_Kept]] = {}

    def keep(self, tensor: Tensor) -> _Kept:
        kept = _Kept(tensor.detach())  # its graph would outlive the parts that no gradient goes through
        self._kept.setdefault(_place(tensor), weakref.WeakSet()).add(kept)
        return kept

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            for number, argument in enumerate(func._schema.arguments):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    written = args[number] if number < len(args) else kwargs.get(argument.name)
                    for tensor in written if isinstance(written, (list, tuple)) else (written,):
                        if isinstance(tensor, Tensor):
                            self._clone(tensor)
        return func(*args, **kwargs)

    def _clone(self, overwritten: Tensor) -> None:
        clones: dict[Any, Tensor] = {}
        for kept in self._kept.pop(_place(overwritten), ()):
            view = (kept.tensor.dtype, kept.tensor.shape, kept.tensor.stride())
            if view not in clones:  # the same one may have been saved several times
                clones[view] = kept.tensor.clone()
            kept.tensor = clones[view]


def _place(tensor: Tensor) -> tuple[int, int]:
    """The storage's address and where in it the tensor begins."""
    return tensor.untyped_storage()._cdata, int(tensor.storage_offset())
