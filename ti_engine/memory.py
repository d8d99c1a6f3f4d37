"""Bytes: counted without allocating them, and the errors that say there are none left."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_SIGNS = (
    *("out of memory", "can't allocate memory", "not enough memory"),
    # What the libraries under torch say when there is none left for them: cuBLAS and cuDNN, MIOpen, Metal, Level Zero.
    *("_status_alloc_failed", "unable to find an engine to execute", "unable to find a valid cudnn algorithm"),
    *("miopenstatusallocfailed", "invalid buffer size", "out_of_device_memory"),
)


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
    libraries take for themselves. known: tensors from before, whose views are not new memory. Of tensors made of others
    (quantised weights) those count, and are to be known.
    """

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

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(hasattr(kind, "__tensor_flatten__") for kind in types):
            return NotImplemented  # torch then asks their class, which asks here for what it is made of
        return self._counted(func, args, kwargs or {})

    def _counted(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = func(*args, **kwargs)
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
