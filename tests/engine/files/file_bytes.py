"""Builds embedding files byte by byte, so that a test can say exactly what is wrong with one."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n"
KEYWORD = b"sd-ti-embedding"


def safetensors_bytes(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """header: as JSON text, or what json.dumps makes of it. length: what the file says about its header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[Any], begin: int = 0, dtype: str = "F32", size: int = 4) -> dict[str, Any]:
    count = 1
    for number in shape:
        count *= number
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + count * size]}


def zip_bytes(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression, 1)
    return file.getvalue()


def torch_zip(pickle: bytes, storages: Mapping[str, bytes] | None = None, **more: bytes) -> bytes:
    """An archive as torch.save makes it, around any pickle. more: further members, by name."""
    members = {"archive/data.pkl": pickle, "archive/version": b"3\n"}
    members |= {f"archive/data/{key}": data for key, data in (storages or {}).items()}
    return zip_bytes(members | {f"archive/{name}": data for name, data in more.items()})


def torch_legacy(pickle: bytes, storages: Mapping[str, bytes] | None = None) -> bytes:
    """A file as torch.save made it before PyTorch 1.6, around any pickle; storages of float32."""
    computer = b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s."
    keys = b"\x80\x02](" + b"".join(text(key) for key in storages or {}) + b"e."
    data = b"".join(struct.pack("<q", len(data) // 4) + data for data in (storages or {}).values())
    return b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + computer + pickle + keys + data


def text(value: str) -> bytes:
    """The pickle instruction for a text."""
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def name(module: str, attribute: str) -> bytes:
    """The pickle instruction for a name of Python's."""
    return f"c{module}\n{attribute}\n".encode()


def whole(value: int) -> bytes:
    """The pickle instruction for an int."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def tensor(
    shape: tuple[int, ...] = (2, 3),
    stride: tuple[int, ...] = (3, 1),
    count: int = 6,
    offset: int = 0,
    key: str = "0",
    kind: bytes = b"ctorch\nFloatStorage\n",
    end: bytes = b"\x89ccollections\nOrderedDict\n)R",
) -> bytes:
    """The pickle instructions of a tensor over storage `key`. end: its arguments behind the stride."""
    storage = b"(" + text("storage") + kind + text(key) + text("cpu") + whole(count) + b"tQ"
    numbers = [b"(" + b"".join(whole(number) for number in part) + b"t" for part in (shape, stride)]
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + whole(offset) + b"".join(numbers) + end + b"tR"


def chunk(kind: bytes, body: bytes, length: int | None = None) -> bytes:
    """A chunk of a PNG with its checksum."""
    return (
        struct.pack(">L", len(body) if length is None else length) + kind + body + struct.pack(">L", crc(kind + body))
    )


def crc(data: bytes) -> int:
    return zlib.crc32(data)


def png_bytes(*chunks: bytes, width: int = 4, height: int = 4, packed: bytes | None = None) -> bytes:
    """A PNG in RGB with `chunks` behind its head; black, or of rows (each behind a filter byte) as a zlib stream."""
    packed = zlib.compress(bytes((3 * width + 1) * height)) if packed is None else packed
    head = chunk(b"IHDR", struct.pack(">2L5B", width, height, 8, 2, 0, 0, 0))
    return PNG + head + b"".join(chunks) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def webp_bytes(kind: bytes, body: bytes, times: int = 1) -> bytes:
    """A WebP of one piece, or of the same one `times` times."""
    pieces = (kind + struct.pack("<L", len(body)) + body + bytes(len(body) % 2)) * times
    return b"RIFF" + struct.pack("<L", 4 + len(pieces)) + b"WEBP" + pieces
