"""Networks run on torch's fake tensors to count their memory, also where the code asks what a tensor holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from .peak_count import CountedMemory

_KNOWN = 1 << 16  # elements; more than tokens, masks and lengths have
_EXPERTS = 4  # of HiDream, as the host makes every one
_aten = torch.ops.aten


@contextmanager
def fake_tensors() -> Iterator[None]:
    """A FakeTensorMode while this lasts, in which small tensors made of Python's numbers keep their values.

    torch remembers those of one element, and of what is computed from them; here it does so of larger ones.
    """
    with patch.object(fake_tensor, "CONSTANT_NUMEL_LIMIT", _KNOWN), FakeTensorMode(allow_non_fake_inputs=True):
        yield


class CountedFakeMemory(CountedMemory):
    """CountedMemory inside of `fake_tensors`, also for code whose course depends on values that are not known.

    A number that is read from such a tensor is an arbitrary one. A mask picks a quarter of what there is, as HiDream's
    four experts do if they share the tokens evenly.
    """

    def _counted(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func in (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default):
            args = (args[0], [_positions(index) for index in args[1]], *args[2:])
        try:
            return super()._counted(func, args, kwargs)
        except DataDependentOutputException:
            if func is not _aten._local_scalar_dense.default:
                raise
        return False if args[0].dtype == torch.bool else 1.0 if args[0].is_floating_point() else 1


def _positions(index: Tensor | None) -> Tensor | None:
    """Positions in place of a mask [N]."""
    if index is None or index.dtype != torch.bool or index.ndim != 1:
        return index
    return torch.empty(len(index) // _EXPERTS, dtype=torch.long, device=index.device)
