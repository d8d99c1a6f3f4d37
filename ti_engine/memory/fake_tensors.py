"""Networks run on tensors without contents: what is known of their contents all the same, and answers for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from .peak_count import CountedMemory

_MOST_VALUES = 1 << 16  # more than tokens, masks, lengths and the choices among experts have
_aten = torch.ops.aten
_TAKES_POSITIONS = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._unsafe_index.Tensor}
_DEPENDS_ON_VALUES = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class CountedWithoutContents(CountedMemory):
    """CountedMemory inside of a FakeTensorMode, also for code whose course depends on what small tensors hold.

    Those that come from Python's numbers alone (tokens, masks, sizes) keep their values, so what is read from them and
    picked by them is exact. A number that is read from another tensor is an arbitrary one, and what topk finds there is
    spread evenly, as among experts that each take their share of the tokens.
    """

    def _counted(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func in _TAKES_POSITIONS:
            args = (args[0], [place for index in args[1] for place in _places(index)], *args[2:])
        known = all(_value(tensor) is not None for tensor in _tensors((*args, *kwargs.values())))
        if known and not _DEPENDS_ON_VALUES.isdisjoint(func.tags):
            found = _computed(func, args, kwargs)
            return _aten.lift_fresh.default(found) if isinstance(found, Tensor) else found
        if func is _aten._local_scalar_dense.default:
            return _anything(args[0])
        result = super()._counted(func, args, kwargs)
        if known and _is_determined(func) and all(t.numel() <= _MOST_VALUES for t in _tensors((result,))):
            _remember(result, _computed(func, args, kwargs))
        elif func is _aten.topk.default and result[1].numel() <= _MOST_VALUES:
            _remember(result[1], _evenly_spread(result[1].shape, args[0].shape[args[2] if len(args) > 2 else -1]))
        elif func._schema.is_mutable:
            for argument, value in zip(func._schema.arguments, args, strict=False):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    _forget(value)
        return result


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (part for part in value if isinstance(part, Tensor))


def _value(tensor: Tensor) -> Tensor | None:
    """What a tensor holds, on the CPU; None where that is not known."""
    if isinstance(tensor, FakeTensor):
        value = vars(tensor).get("_value")
        return value if value is None or value.untyped_storage().nbytes() or not value.numel() else None
    if tensor.numel() > _MOST_VALUES or tensor.is_meta:
        return None
    with torch._C._DisableTorchDispatch():
        return tensor.detach().to("cpu", copy=True)


def _remember(result: Any, found: Any) -> None:
    if isinstance(result, FakeTensor):
        vars(result)["_value"] = found
    elif isinstance(result, (list, tuple)):
        for one, value in zip(result, found, strict=True):
            _remember(one, value)


def _forget(tensor: Any) -> None:
    """Also for all views of it, whose values are views of its value."""
    if isinstance(tensor, FakeTensor) and (value := _value(tensor)) is not None:
        value.untyped_storage().resize_(0)


def _is_determined(func: Any) -> bool:
    return func.namespace == "aten" and torch.Tag.nondeterministic_seeded not in func.tags and "empty" not in str(func)


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    """The result of `func` on what its arguments hold."""

    def held(argument: Any) -> Any:
        if isinstance(argument, Tensor):
            return _value(argument)
        if isinstance(argument, (list, tuple)):
            return type(argument)(map(held, argument))
        return torch.device("cpu") if isinstance(argument, torch.device) else argument

    with torch._C._DisableTorchDispatch():
        return func(*map(held, args), **{name: held(value) for name, value in kwargs.items()})


def _places(index: Tensor | None) -> Sequence[Tensor | None]:
    """Positions in place of the mask that tells them."""
    value = None if index is None or index.dtype not in (torch.bool, torch.uint8) else _value(index)
    if value is None:
        return [index]
    with torch._C._DisableTorchDispatch():
        return value.nonzero(as_tuple=True)


def _evenly_spread(shape: Sequence[int], size: int) -> Tensor:
    """Whole numbers below `size` in turn, those of a row different."""
    with torch._C._DisableTorchDispatch():
        return (torch.arange(torch.Size(shape).numel()) % size).reshape(shape)


def _anything(tensor: Tensor) -> bool | int | float:
    return False if tensor.dtype == torch.bool else 1.0 if tensor.is_floating_point() else 1
