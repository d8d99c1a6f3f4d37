"""Counting the bytes that tensors take up, and the highest point of that count."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


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
