"""Newer hosts' quantised weights: tensors that are made of others, their numbers and scales."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor


def is_quantised(tensor: Tensor) -> bool:
    return hasattr(tensor, "_qdata")


def with_parts(quantised: Any, changed: Callable[[Tensor], Tensor]) -> Any:
    """A weight like `quantised` that is made of `changed` of each of its tensors."""
    told = quantised._params
    scales = {field.name: getattr(told, field.name) for field in dataclasses.fields(told)}
    scales = {name: changed(value) for name, value in scales.items() if isinstance(value, Tensor)}
    return type(quantised)(changed(quantised._qdata), quantised._layout_cls, dataclasses.replace(told, **scales))
