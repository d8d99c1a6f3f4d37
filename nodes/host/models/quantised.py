"""Newer hosts' quantised weights: tensors that are made of others, their numbers and scales."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor


def is_quantised(tensor: Tensor) -> bool:
    return hasattr(tensor, "_qdata")


def parts_of(quantised: Any) -> list[Tensor]:
    """The tensors that a weight is made of, its numbers first."""
    return [quantised._qdata, *_scales(quantised).values()]


def with_parts(quantised: Any, changed: Callable[[Tensor], Tensor]) -> Any:
    """A weight like `quantised` that is made of `changed` of each of its tensors."""
    scales = {name: changed(value) for name, value in _scales(quantised).items()}
    parameters = dataclasses.replace(quantised._params, **scales)
    return type(quantised)(changed(quantised._qdata), quantised._layout_cls, parameters)


def _scales(quantised: Any) -> dict[str, Tensor]:
    parameters = {field.name: getattr(quantised._params, field.name) for field in dataclasses.fields(quantised._params)}
    return {name: value for name, value in parameters.items() if isinstance(value, Tensor)}
