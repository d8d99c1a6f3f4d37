"""PyTorch's .pt and .bin: a pickle and, apart from it, the numbers of its tensors. Nothing is unpickled.

The layout of both kinds is that of torch/serialization.py (`_save` and `_legacy_save`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..limits import MAX_DIMENSIONS, MAX_FILE, MAX_LOADED, MAX_NESTING, MAX_PARTS, MAX_PICKLE, MAX_REPEATED
from ..refused import Refused
from ..source import Source
from .pickle_machine import Pickle, read_pickle_at
from .pickle_names import NUMBER_FORMATS, Name, ParameterDict, Storage, StoredTensor
from .zip_archive import archive_members

_MAGIC = 0x1950A86A20F9469CFC6C  # PyTorch before 1.6
_LEGACY_PROTOCOL = 1001
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
_WIDEST = 1 << 63
_BROKEN = "is cut off, or its tensors are broken; download it again"

StorageReader = Callable[[Storage, int, int], bytearray]  # storage, first byte, number of bytes -> the bytes


def read_pickle(source: Source) -> Any:
    """The content of a file that begins like a zip archive or a pickle, as `Container` describes it.

    Raises Refused for everything that PyTorch did not write, and for all that is more than tensors, text and numbers
    in dicts and lists.
    """
    pickle, read_storage = (_open_zip if source.head(2) == b"PK" else _open_legacy)(source)
    return _Plain(read_storage, source.size + MAX_REPEATED).value(pickle.content, 0)


def _open_zip(source: Source) -> tuple[Pickle, StorageReader]:
    members = archive_members(source)
    pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise Refused(
            f"is a zip archive of {len(members):,} files which PyTorch did not write; unpack it and name the embedding "
            "in it"
        )
    folder = pickles[0].removesuffix("data.pkl")
    if any(name.startswith((f"{folder}code/", f"{folder}constants.pkl")) for name in members):
        raise Refused("is a TorchScript program and not an embedding; get the embedding as safetensors")
    if any(member.packed for member in members.values()):
        raise Refused(
            "is a compressed zip archive, which PyTorch does not write; unpack it and name the embedding in it, or "
            "save it again with PyTorch"
        )
    if (size := members[pickles[0]].size) > MAX_PICKLE:
        raise Refused(f"has a pickle of {size:,} bytes, and at most {MAX_PICKLE:,} are read; is it a model?")
    order = members.get(f"{folder}byteorder")
    if order is not None and order.read(source, 0, min(order.size, 16)) != b"little":
        raise Refused("was written on a computer with another byte order; save it there as safetensors")
    data = bytes(members[pickles[0]].read(source))
    pickle = read_pickle_at(data)
    if pickle.end != len(data):
        raise Refused("has something behind the end of its pickle, where nothing may be; download it again")

    def read_storage(storage: Storage, first: int, count: int) -> bytearray:
        member = members.get(f"{folder}data/{storage.key}")
        if member is None or member.size != storage.count * _item_size(storage):
            raise Refused(_BROKEN)
        return member.read(source, first, count)

    return pickle, read_storage


def _open_legacy(source: Source) -> tuple[Pickle, StorageReader]:
    """Five pickles (a magic number, the protocol, the computer, the content, the storages' keys), then the storages."""
    data = source.head(MAX_PICKLE)
    magic = read_pickle_at(data)
    if magic.content != _MAGIC:
        raise Refused("is a Python pickle that PyTorch did not write, so it is no embedding")
    protocol = read_pickle_at(data, magic.end)
    computer = read_pickle_at(data, protocol.end)
    pickle = read_pickle_at(data, computer.end)
    keys = read_pickle_at(data, pickle.end)
    if protocol.content != _LEGACY_PROTOCOL or not isinstance(computer.content, dict):
        raise Refused(_BROKEN)
    if computer.content.get("little_endian") is not True:
        raise Refused("was written on a computer with another byte order; save it there as safetensors")
    places: dict[str, int] = {}
    at = keys.end
    for key in keys.content if isinstance(keys.content, list) else ():
        storage = pickle.storages.get(key) if isinstance(key, str) else None
        if storage is None or int.from_bytes(source.read(at, 8), "little") != storage.count:
            raise Refused(_BROKEN)
        places[storage.key] = at + 8
        at += 8 + storage.count * _item_size(storage)
    if at > source.size:
        raise Refused(f"is cut off: {source.size:,} of {at:,} bytes; download it again")
    if at < source.size:
        raise Refused(f"goes on for {source.size - at:,} bytes behind its end, where nothing may be; download it again")

    def read_storage(storage: Storage, first: int, count: int) -> bytearray:
        if storage.key not in places:
            raise Refused(_BROKEN)
        return source.read(places[storage.key] + first, count)

    return pickle, read_storage


def _item_size(storage: Storage) -> int:
    return _DTYPES[storage.kind].itemsize


class _Plain:
    """Turns what the machine made into dicts, lists and tensors: a tree, whatever was shared or circular in it."""

    def __init__(self, read_storage: StorageReader, most: int) -> None:
        self._read_storage, self._most = read_storage, most
        self._parts = self._bytes = 0

    def value(self, made: Any, depth: int) -> Any:
        self._parts += 1
        if depth > MAX_NESTING or self._parts > MAX_PARTS:
            raise Refused(f"has more than {MAX_PARTS:,} values, or some that contain themselves; it is no embedding")
        if isinstance(made, ParameterDict):
            made = made.state.get("_parameters") if isinstance(made.state, dict) else None
            if not isinstance(made, dict):
                raise Refused("has a ParameterDict without parameters; it is broken")
        if isinstance(made, dict):
            return {key: self.value(part, depth + 1) for key, part in made.items()}
        if isinstance(made, (list, tuple)):
            return [self.value(part, depth + 1) for part in made]
        if isinstance(made, StoredTensor):
            return self._tensor(made)
        if isinstance(made, int) and not -_WIDEST <= made < _WIDEST:
            raise Refused("has a whole number of more than 64 bits, which no embedding has")
        if made is None or isinstance(made, (str, bool, int, float)):
            return made
        if isinstance(made, Name) and made.text in NUMBER_FORMATS:  # some files say so beside the vectors
            return made.text
        raise Refused("holds a name of Python's where an embedding has a tensor, a text or a number")

    def _tensor(self, stored: StoredTensor) -> Tensor:
        """Its numbers in memory of its own, read after all that the file says about them has been checked."""
        dtype = _DTYPES[stored.storage.kind] if stored.dtype is None else getattr(torch, stored.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise Refused(f"has the number format {stored.dtype}, which this PyTorch does not know; update it")
        shape, stride = stored.shape, stored.stride
        if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
            raise Refused(_BROKEN)
        if not all(type(number) is int and 0 <= number <= MAX_FILE for number in (*shape, *stride, stored.offset)):
            raise Refused(_BROKEN)
        count = math.prod(shape)
        span = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) if count else 0
        available = stored.storage.count * _item_size(stored.storage)
        if (stored.offset + span) * dtype.itemsize > available:
            raise Refused(_BROKEN)
        # Rows may be one row over and over (a tensor saved after `expand`), so that a file says more than it holds.
        self._bytes += max(count, span) * dtype.itemsize
        if self._bytes > MAX_LOADED:
            raise Refused(f"holds more than {MAX_LOADED >> 20} MiB of tensors; is it a model?")
        if self._bytes > self._most:
            raise Refused("has tensors of the same numbers over and over, as in a decompression bomb; it is not read")
        if not count:
            return torch.empty(shape, dtype=dtype)
        data = self._read_storage(stored.storage, stored.offset * dtype.itemsize, span * dtype.itemsize)
        if dtype == torch.bool:  # any byte is a number, but not any byte a bool
            return (torch.frombuffer(data, dtype=torch.uint8) != 0).as_strided(shape, stride).contiguous()
        return torch.frombuffer(data, dtype=dtype).as_strided(shape, stride).contiguous()
