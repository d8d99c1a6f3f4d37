"""Whether this program can have written what a file of a run holds. Its hash only tells that it is as it was written,
and anybody can write such a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

_LARGEST = 1 << 31  # number of steps, of parts, of chunks
_RANGE = re.compile(r"(\d{1,10})\.(\d{1,10})")
_ADDED_LATER = {"every": 1, "norms": {}}


def check_facts(facts: Any) -> dict[str, Any]:
    """The facts of a state, with those that older versions did not write. Raises ValueError for others."""
    facts = {**_ADDED_LATER, **facts} if isinstance(facts, dict) else None
    if facts is None or not all(name in facts and holds(facts[name]) for name, holds in _FACTS.items()):
        raise ValueError("its state is damaged.")
    good = facts["last_good"]
    if (good is not None and good > facts["step"]) or (facts["every"] > 1 and not (facts["finished"] and good is None)):
        raise ValueError("its state is damaged.")
    return facts


def check_about(about: Any) -> dict[str, Any]:
    """What config.json says, as it is. Raises ValueError for what no run says of itself; anything may be left out."""
    if not isinstance(about, dict) or not all(holds(about[name]) for name, holds in _ABOUT.items() if name in about):
        raise ValueError("config.json is damaged.")
    return about


def check_tensors(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Raises ValueError for tensors that no state with these facts has. Those of the trajectory are not looked at."""
    vectors = {name.removeprefix("vectors."): rows for name, rows in tensors.items() if name.startswith("vectors.")}
    shapes = {rows.shape for rows in vectors.values()}
    averages = {name.removeprefix("average.") for name in tensors if name.startswith("average.")}
    if averages != (set() if facts["every"] == 1 else set(vectors)):
        raise ValueError("its average is damaged.")
    if not set(facts["norms"]) <= set(vectors):
        raise ValueError("its norms are damaged.")
    if not vectors or not all(_is(rows, 2, torch.float32) for rows in vectors.values()):
        raise ValueError("its vectors are damaged.")
    losses = tensors.get("evaluations", torch.empty(0, 0))
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            number, _, moment = rest.partition(".")
            single = moment == "step" and _is(tensor, 0, torch.float32)
            whole = moment in ("exp_avg", "exp_avg_sq") and _is(tensor, 2, torch.float32) and tensor.shape in shapes
            by_row = moment == "exp_avg_sq" and facts["norms"] and tensor.shape in {(rows, 1) for rows, _ in shapes}
            fits = (single or whole or by_row) and number.isdecimal() and int(number) < len(vectors)
        elif kind == "average":
            fits = rest in vectors and _is(tensor, 2, torch.float32) and tensor.shape == vectors[rest].shape
        elif kind == "reached":
            fits = rest in vectors and _is(tensor, 1, torch.bool) and len(tensor) == len(vectors[rest])
        elif kind == "candidate":
            fits = tensor.is_floating_point() and tensor.shape == losses.shape[1:] and _steps(rest, facts["step"])
        elif kind == "window_losses":
            fits = tensor.is_floating_point() and tensor.shape == losses.shape[1:]
        elif kind == "evaluations":
            fits = tensor.ndim == 2 and tensor.is_floating_point() and tensor.shape[1] > 0
        elif kind == "evaluated":
            steps_there = tensor.dtype == torch.int64 and bool(((tensor >= 0) & (tensor <= facts["step"])).all())
            fits = steps_there and tensor.shape == losses.shape[:1]
        else:
            fits = True
        if not fits:
            raise ValueError(f"its {kind.replace('_', ' ')} is damaged.")
    try:
        torch.Generator().set_state(tensors["generator"])
    except (KeyError, RuntimeError, TypeError) as error:
        raise ValueError("its generator is damaged.") from error


def _is(tensor: Tensor, dimensions: int, dtype: torch.dtype) -> bool:
    return tensor.ndim == dimensions and tensor.dtype == dtype


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _positive(value: Any) -> bool:
    return _count(value) and value > 0


def _number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e300  # neither NaN nor infinity


def _length(value: Any) -> bool:
    return type(value) is float and 0 < value < 1e30


def _steps(name: str, last: int) -> bool:
    """Whether these are the numbers of a range of steps up to the last, such as "5.11"."""
    numbers = _RANGE.fullmatch(name)
    return numbers is not None and int(numbers[1]) < int(numbers[2]) <= last + 1


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _none_or(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or holds(value)


_FACTS: dict[str, Callable[[Any], bool]] = {
    "step": _count,
    "every": _positive,
    "chunks": _count,
    "finished": lambda value: isinstance(value, bool),
    "seconds": _number,
    "notes": lambda value: isinstance(value, dict) and all(map(_text, value.values())),
    "loss_scale": lambda value: isinstance(value, list) and len(value) == 3 and all(map(_number, value)),
    "norms": lambda value: isinstance(value, dict) and all(map(_length, value.values())),
    "parts": _positive,
    "cool_down": _none_or(lambda value: isinstance(value, list) and len(value) == 2 and all(map(_count, value))),
    "placeholder": _text,
    "stopped": _none_or(_text),
    "record_parts": _positive,
    "ran_out_of_memory": _none_or(_count),
    "nondeterministic": _texts,
    "last_good": _none_or(_count),
    "warnings": _texts,
}

_ABOUT: dict[str, Callable[[Any], bool]] = {
    "word": _text,
    "pictures": _count,
    "picture_names": _texts,
    "captions": lambda value: isinstance(value, list) and all(map(_none_or(_text), value)),
    "model": _text,
    "parent": _none_or(_text),
    "started_from": _none_or(lambda value: isinstance(value, dict)),
    "began": _text,
    "program": _text,
    "settings": lambda value: (
        isinstance(value, dict) and all(_count(value[name]) for name in ("steps", "resolution") if name in value)
    ),
}
