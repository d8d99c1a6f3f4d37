"""safetensors: a length, a JSON header, and the numbers one after the other (github.com/huggingface/safetensors).

The numbers are read here and not by the safetensors library, because it loads a file whole and twice, takes a key that
is there two times, and a word is a thousandth part of some of the files that hold one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..limits import MAX_DIMENSIONS, MAX_FILE, MAX_HEADER, MAX_HEADER_TEXTS, MAX_KEY, MAX_LOADED, MAX_TENSORS
from ..refused import Refused
from ..source import Source

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "C64": "complex64",
    "BOOL": "bool",
}
_DIGITS = 19  # of an integer in 64 bits


class _HeaderError(ValueError):
    """What is wrong with a header, about it."""


@dataclass(frozen=True)
class _Entry:
    """One tensor of the header: what it is, and where it lies behind the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def read_safetensors(source: Source, wanted: Callable[[str], bool] | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata; `wanted` as in `read_container`.

    Raises Refused for a header that is not exactly what the format allows.
    """
    length = int.from_bytes(source.read(0, 8), "little")
    if length > MAX_HEADER:
        raise Refused(
            f"announces a header of {length:,} bytes, and at most {MAX_HEADER:,} are read; "
            "it is broken, or no safetensors file"
        )
    try:
        header = _parse(bytes(source.read(8, length)))
        metadata = _metadata(header.pop("__metadata__", {}))
        entries = {key: _entry(key, value) for key, value in header.items()}
    except RecursionError as error:
        raise Refused("has a broken safetensors header: it is nested too deep") from error
    except _HeaderError as fault:
        raise Refused(f"has a broken safetensors header: {fault}") from fault
    if not entries:
        raise Refused("holds no tensor, so it is no embedding")
    _check_layout(entries.values(), source.size - 8 - length)
    whole = source.size <= MAX_LOADED
    read = {key for key in entries if whole or (wanted is not None and wanted(key))}
    if (needed := sum(entries[key].end - entries[key].begin for key in read)) > MAX_LOADED:
        raise Refused(f"holds {needed >> 20:,} MiB of words, and at most {MAX_LOADED >> 20} are read; is it a model?")
    return {key: _tensor(source, 8 + length, entry, key in read) for key, entry in entries.items()}, metadata


def _parse(text: bytes) -> dict[str, Any]:
    _check_structure(text)
    try:
        header = json.loads(
            text.decode("utf-8"), object_pairs_hook=_object, parse_int=_integer, parse_constant=_no_number
        )
    except json.JSONDecodeError as error:
        raise _HeaderError(f"{error.msg} at character {error.pos:,} of its JSON") from error
    except UnicodeDecodeError as error:
        raise _HeaderError(f"it is not UTF-8 at byte {error.start:,}") from error
    if not isinstance(header, dict):
        raise _HeaderError("it is no JSON object")
    if len(header) > MAX_TENSORS:
        raise _HeaderError(f"it names {len(header):,} tensors, and at most {MAX_TENSORS:,} are read")
    return header


def _check_structure(text: bytes) -> None:
    """Counts texts, lists and objects before they are made, since each takes many times its letters in memory."""
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 2 * MAX_HEADER_TEXTS:
        raise _HeaderError(f"it holds more than {MAX_HEADER_TEXTS:,} texts")
    structure = b"".join(bare.split(b'"')[::2])
    if structure.count(b"[") + structure.count(b"{") > 3 * MAX_TENSORS + 2:
        raise _HeaderError(f"it describes more than {MAX_TENSORS:,} tensors")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise _HeaderError(f"the key {_excerpt(twice)} is there twice")
    return made


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise _HeaderError(f"a number in it has {len(digits):,} digits")
    return int(digits)


def _no_number(text: str) -> float:
    raise _HeaderError(f"{text} stands for a number in it")


def _metadata(value: Any) -> dict[str, str]:
    if value is None:  # which the format's own reader takes
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _HeaderError("its metadata is not text by text")
    return value


def _entry(key: str, value: Any) -> _Entry:
    if len(key) > MAX_KEY:
        raise _HeaderError(f"a tensor's name has {len(key):,} characters, and at most {MAX_KEY:,} are read")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _HeaderError(f"{_excerpt(key)} is not described by dtype, shape and data_offsets")
    dtype = getattr(torch, _DTYPES.get(value["dtype"], "") if isinstance(value["dtype"], str) else "", None)
    if not isinstance(dtype, torch.dtype):
        raise Refused(f"holds numbers in the format {_excerpt(value['dtype'])}, which is not read")
    shape, offsets = value["shape"], value["data_offsets"]
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS:
        raise _HeaderError(f"{_excerpt(key)} has the shape {_excerpt(shape)}")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _HeaderError(f"{_excerpt(key)} has the data_offsets {_excerpt(offsets)}")
    begin, end = offsets
    if math.prod(shape) * dtype.itemsize != end - begin:
        raise _HeaderError(
            f"{_excerpt(key)} of shape {_excerpt(shape)} in {value['dtype']} takes "
            f"{math.prod(shape) * dtype.itemsize:,} bytes, but its offsets span {end - begin:,}"
        )
    return _Entry(dtype, tuple(shape), begin, end)


def _naturals(value: Any) -> bool:
    """Whether it is a list of whole numbers that a file could reach; True and False are no numbers."""
    return isinstance(value, list) and all(type(number) is int and 0 <= number <= MAX_FILE for number in value)


def _check_layout(entries: Iterable[_Entry], available: int) -> None:
    """One tensor behind the other from 0 to the end of the file, as the format demands."""
    reached = 0
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != reached:
            fault = "overlap" if entry.begin < reached else "leave a gap between them"
            raise Refused(f"has a broken safetensors header: its tensors {fault} at byte {entry.begin:,} of the data")
        reached = entry.end
    if available < reached:
        raise Refused(f"is cut off: {available:,} of {reached:,} bytes of tensors; download it again")
    if available > reached:
        raise Refused(
            f"goes on for {available - reached:,} bytes behind its last tensor, where nothing may be; download it again"
        )


def _tensor(source: Source, start: int, entry: _Entry, read: bool) -> Tensor:
    if not read:
        return torch.empty(entry.shape, dtype=entry.dtype, device="meta")
    data = source.read(start + entry.begin, entry.end - entry.begin)
    if not data:
        return torch.empty(entry.shape, dtype=entry.dtype)
    if entry.dtype == torch.bool:  # any byte is a number, but not any byte a bool
        return torch.frombuffer(data, dtype=torch.uint8).reshape(entry.shape) != 0
    return torch.frombuffer(data, dtype=entry.dtype).reshape(entry.shape)


def _excerpt(value: Any) -> str:
    """At most 60 characters of something a stranger wrote, on one line."""
    text = ascii(value[:60] if isinstance(value, (str, list)) else value)
    return text if len(text) <= 80 else f"{text[:77]}..."
