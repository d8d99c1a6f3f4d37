"""The JSON in a picture: A1111's dict, in which a tensor is {"TORCHTENSOR": its numbers as lists}."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from ..limits import MAX_JSON, MAX_JSON_LISTS, MAX_JSON_NUMBERS, MAX_NESTING
from ..refused import Refused

_TENSOR = "TORCHTENSOR"
_MAX_DIGITS = 19  # of a whole number in 64 bits
_BROKEN = "holds an embedding that is broken: its JSON"


def parse_json(data: bytes) -> dict[str, Any]:
    """The dict in `data`, its tensors still as lists. Raises Refused."""
    if len(data) > MAX_JSON:
        raise Refused(f"holds {len(data):,} bytes of JSON, and at most {MAX_JSON:,} are read")
    if data.count(b"[") + data.count(b"{") > MAX_JSON_LISTS:
        raise Refused(f"{_BROKEN} has more than {MAX_JSON_LISTS:,} lists")
    if data.count(b",") > MAX_JSON_NUMBERS:
        raise Refused(f"{_BROKEN} has more than {MAX_JSON_NUMBERS:,} numbers")
    try:
        made = json.loads(data.decode("utf-8"), parse_int=_integer)
    except RecursionError as error:
        raise Refused(f"{_BROKEN} is nested too deep") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{_BROKEN} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise Refused(f"{_BROKEN} has a fault at character {error.pos:,} ({error.msg})") from error
    if not isinstance(made, dict):
        raise Refused(f"{_BROKEN} is no object")
    return made


def with_tensors(made: Any, depth: int = 0) -> Any:
    """`made` with float32 tensors in place of lists of numbers. Raises Refused."""
    if depth > MAX_NESTING:
        raise Refused(f"{_BROKEN} is nested too deep")
    if isinstance(made, dict):
        if made.keys() == {_TENSOR}:
            return _tensor(made[_TENSOR])
        return {key: with_tensors(part, depth + 1) for key, part in made.items()}
    if isinstance(made, list):
        return [with_tensors(part, depth + 1) for part in made]
    return made


def write_json(content: dict[str, Any]) -> bytes:
    """A1111's dict with its tensors as JSON. Raises ValueError for something else than tensors, text and numbers."""

    def listed(part: Any) -> Any:
        if isinstance(part, Tensor):
            return {_TENSOR: part.detach().cpu().to(torch.float64).tolist()}
        raise ValueError(f"A picture holds tensors, text and numbers; got {type(part).__name__}.")

    return json.dumps(content, default=listed).encode("utf-8")


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise Refused(f"{_BROKEN} has a number of {len(digits):,} digits")
    return int(digits)


def _tensor(lists: Any) -> Tensor:
    rows = lists if isinstance(lists, list) and lists and isinstance(lists[0], list) else [lists]
    for row in rows:
        if not isinstance(row, list) or len(row) != len(rows[0]) or not all(type(n) in (int, float) for n in row):
            raise Refused(f"{_BROKEN} has a tensor that is not rows of numbers, all of one length")
    made = torch.tensor([[float(number) for number in row] for row in rows], dtype=torch.float32)
    return made if rows is lists else made[0]
