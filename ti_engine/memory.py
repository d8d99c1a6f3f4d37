"""Bytes: counted without allocating them, and the errors that say there are none left."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had no memory left: torch says so in classes that differ by device."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


@contextmanager
def out_of_memory_forgiven() -> Iterator[None]:
    """Ends quietly where memory runs out, with what could not be had left undone."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise


class CountedMemory(TorchDispatchMode):
    """Counts the memory that tensors made inside of it take up, and its highest point, by kind of device.

    Inside of a FakeTensorMode nothing is allocated and the count is that of the real thing, without what the device's
    libraries take for themselves. known: tensors from before, whose views are not new memory.
    """

    active = 0
    """How many are counting now, in all threads."""

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now: dict[str, int] = {}
        """Bytes held at this moment."""
        self.peak: dict[str, int] = {}
        """The most bytes that were ever held at once."""
        self._seen: dict[int, Any] = {}
        for tensor in known:
            storage = tensor.untyped_storage()
            self._seen[storage._cdata] = storage

    def __enter__(self) -> CountedMemory:
        CountedMemory.active += 1
        return super().__enter__()  # pyright: ignore[reportReturnType]

    def __exit__(self, *error: Any) -> None:
        CountedMemory.active -= 1
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and CountedMemory.active:
            return _anything(args[0])
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self._add(tensor)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size, device = storage._cdata, storage.nbytes(), tensor.device.type
        if key in self._seen:
            return
        self.now[device] = self.now.get(device, 0) + size
        self.peak[device] = max(self.peak.get(device, 0), self.now[device])

        def gone(_: object) -> None:
            self.now[device] -= size
            del self._seen[key]

        self._seen[key] = weakref.ref(storage, gone)


def overwriting_allowed() -> AbstractContextManager[Any]:
    """For networks that add in place to what autograd keeps: while this lasts it keeps copies instead, but of weights.

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
    return tensor.detach()[once].clone().expand(tensor.shape)


def _anything(tensor: Tensor) -> bool | int | float:
    return False if tensor.dtype == torch.bool else 1.0 if tensor.is_floating_point() else 1
