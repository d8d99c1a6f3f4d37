"""Archives, pictures and headers that are small on the disk and would be large in memory, or that lie about themselves.

Each is made when it is asked for, since some take a moment.
"""

from __future__ import annotations

import base64
import functools
import json
import struct
import zipfile
import zlib
from collections.abc import Callable

from file_bytes import (
    KEYWORD,
    PNG,
    chunk,
    entry,
    png_bytes,
    safetensors_bytes,
    tensor,
    text,
    torch_zip,
    webp_bytes,
    zip_bytes,
)
from PIL import Image

from ti_engine.files.containers.picture_pixels import picture_around

MEBI = 1 << 20
BOMB = 100 * MEBI  # what comes out: more than any file may take in memory
_PICKLE = b"\x80\x02}" + text("emb") + tensor() + b"s."
_WORD = {"archive/data.pkl": _PICKLE, "archive/data/0": bytes(24), "archive/version": b"3\n"}


def archives() -> dict[str, Callable[[], bytes]]:
    return {
        "a deflated pickle": lambda: zip_bytes(_WORD | {"archive/data.pkl": bytes(BOMB)}, zipfile.ZIP_DEFLATED),
        "a deflated storage": lambda: zip_bytes(_WORD | {"archive/data/0": bytes(BOMB)}, zipfile.ZIP_DEFLATED),
        "LZMA": lambda: zip_bytes(_WORD, zipfile.ZIP_LZMA),
        "deflated, said to be stored": lambda: _patched(zip_bytes(_WORD, zipfile.ZIP_DEFLATED), method=0),
        "a size that lies": lambda: _patched(zip_bytes(_WORD), size=1 << 30),
        "64-bit sizes that lie": lambda: _wide_sizes(1 << 62),
        "overlapping members": _overlapping,
        "one member as many": lambda: _one_as_many(1_000),
        "two members of one name": _twins,
        "a member that leads up": lambda: zip_bytes(_WORD | {"archive/../../x": b"x"}),
        "a member that leads up on Windows": lambda: zip_bytes(_WORD | {"archive\\..\\..\\x": b"x"}),
        "an absolute member": lambda: zip_bytes(_WORD | {"/etc/x": b"x"}),
        "two names for a member": lambda: zip_bytes(_WORD).replace(b"archive/version", b"archive/Version", 1),
        "an encrypted member": lambda: _patched(zip_bytes(_WORD), flags=1),
        "a comment": lambda: zip_bytes(_WORD)[:-2] + struct.pack("<H", 5) + b"hello",
        "a comment that is said": lambda: zip_bytes(_WORD)[:-2] + struct.pack("<H", 5),
        "appended data": lambda: zip_bytes(_WORD) + b"appended",
        "a second archive behind": lambda: zip_bytes(_WORD) + zip_bytes({"x": b"y"}),
        "65,535 members said": lambda: _end(zip_bytes(_WORD), count=0xFFFF),
        "a directory of 4 GiB": lambda: _end(zip_bytes(_WORD), length=0xFFFFFFF0),
        "a directory beyond the file": lambda: _end(zip_bytes(_WORD), begin=0x7FFFFFFF),
        "21,000 members": lambda: zip_bytes({f"archive/data/{i}": b"" for i in range(21_000)}),
        "a checksum that is wrong": lambda: zip_bytes(_WORD).replace(bytes(24), b"\x01" * 24),
        "a pickle of 5 MiB": lambda: zip_bytes(_WORD | {"archive/data.pkl": _PICKLE + bytes(5 * MEBI)}),
        "a large pickle of small values": lambda: torch_zip(b"\x80\x02](" + b"}" * 1_000_000 + b"e."),
        "a large pickle of long numbers": lambda: torch_zip(
            b"\x80\x02](" + (b"\x8a\xff" + b"\x7f" * 255) * 15_000 + b"e."
        ),
        "50 MiB in two tensors of 25": lambda: _two_large(25 * MEBI),
        "one storage in a hundred tensors": lambda: torch_zip(
            b"\x80\x02](" + tensor((MEBI,), (1,), MEBI) * 100 + b"e.", {"0": bytes(4 * MEBI)}
        ),
        "only the end": lambda: b"PK\x03\x04" + zip_bytes({}),
        "no end": lambda: zip_bytes(_WORD)[:-30],
        "a big-endian computer": lambda: zip_bytes(_WORD | {"archive/byteorder": b"big"}),
    }


def pictures() -> dict[str, Callable[[], bytes]]:
    small = base64.b64encode(b'{"string_to_param": {"*": {"TORCHTENSOR": [[1.0]]}}}')
    return {
        "60,000 x 60,000 said": lambda: png_bytes(width=60_000, height=60_000, packed=b""),
        "2 ** 31 x 2 ** 31 said": lambda: png_bytes(width=1 << 31, height=1 << 31, packed=b""),
        "0 x 0": lambda: png_bytes(width=0, height=0),
        "8,000 x 8,000 black": lambda: png_bytes(width=8_000, height=8_000, packed=_packed()),
        "more rows than said": lambda: png_bytes(packed=_packed()),
        "two heads": lambda: png_bytes(chunk(b"IHDR", struct.pack(">2L5B", 50_000, 50_000, 8, 2, 0, 0, 0))),
        "no head": lambda: PNG + chunk(b"IEND", b""),
        "a head that is short": lambda: PNG + chunk(b"IHDR", b"\0\0\0\1") + chunk(b"IEND", b""),
        "a chunk of 2 GiB said": lambda: PNG + chunk(b"tEXt", b"x", length=(1 << 31) - 1),
        "1,000,000 chunks": lambda: png_bytes(chunk(b"tIME", b"") * 1_000_000),
        "packed text": lambda: png_bytes(chunk(b"zTXt", KEYWORD + b"\0\0" + _packed())),
        "packed international text": lambda: png_bytes(chunk(b"iTXt", KEYWORD + b"\0\1\0\0\0" + _packed())),
        "text packed in another way": lambda: png_bytes(chunk(b"iTXt", KEYWORD + b"\0\1\7\0\0" + small)),
        "packed text that is broken": lambda: png_bytes(chunk(b"zTXt", KEYWORD + b"\0\0x\xda")),
        "a packed profile": lambda: png_bytes(chunk(b"iCCP", b"x\0\0" + _packed())),
        "text of 8 MiB": lambda: png_bytes(chunk(b"tEXt", KEYWORD + b"\0" + b"A" * 8 * MEBI)),
        "text that is not base64": lambda: _png_with_text(b"\xff\xfe\xfd"),
        "two texts": lambda: png_bytes(*[chunk(b"tEXt", KEYWORD + b"\0" + small)] * 2),
        "appended data": lambda: png_bytes() + b"appended",
        "a checksum that is wrong": lambda: png_bytes()[:-1] + b"\0",
        "no JSON": lambda: _json(b"no JSON"),
        "JSON that is a list": lambda: _json(b"[]"),
        "a pickle for JSON": lambda: _json(b"\x80\x02cos\nmkdir\n(X\x01\0\0\0xtR."),
        "100,000 lists in each other": lambda: _json(b"[" * 100_000 + b"]" * 100_000),
        "9,000 lists in each other": lambda: _json(b'{"a":' + b"[" * 9_000 + b"]" * 9_000 + b"}"),
        "900 tensors in each other": lambda: _json(b'{"a":' * 900 + b"1" + b"}" * 900),
        "1,000,000 empty lists": lambda: _json(b'{"a":[' + b"[]," * 1_000_000 + b"[]]}"),
        "2,000,000 numbers": lambda: _json(b'{"a":{"TORCHTENSOR":[' + b"1," * 2_000_000 + b"[1]]}}"),
        "a number of 1,000,000 digits": lambda: _json(b'{"a":' + b"9" * 1_000_000 + b"}"),
        "rows of several lengths": lambda: _json(b'{"a":{"TORCHTENSOR":[[1,2],[3]]}}'),
        "rows of text": lambda: _json(b'{"a":{"TORCHTENSOR":[["x"]]}}'),
        "rows of rows": lambda: _json(b'{"a":{"TORCHTENSOR":[[[1]]]}}'),
        "no rows": lambda: _json(b'{"a":{"TORCHTENSOR":{"b":1}}}'),
        "rows of True": lambda: _json(b'{"a":{"TORCHTENSOR":[[true]]}}'),
        "pixels that unpack to 100 MiB": lambda: _pixels(bytes(BOMB)),
        "pixels of no JSON": lambda: _pixels(b"no JSON"),
        "a canvas of 2 ** 24 x 2 ** 24": lambda: webp_bytes(b"VP8X", bytes(4) + b"\xff" * 6),
        "WebP of 16,384 x 16,384": lambda: webp_bytes(b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(64)),
        "WebP with loss": lambda: webp_bytes(b"VP8 ", bytes(64)),
        "WebP in many pieces": lambda: webp_bytes(b"EXIF", b"", times=100_000),
        "WebP, cut": lambda: webp_bytes(b"VP8L", b"\x2f\x03\xc0\x00\x00" + bytes(64))[:-9],
        "WebP, appended": lambda: webp_bytes(b"VP8L", b"\x2f\x03\xc0\x00\x00" + bytes(64)) + b"appended",
        "WebP, broken": lambda: webp_bytes(b"VP8L", b"\x2f\x03\xc0\x00\x00" + b"\xff" * 64),
    }


def headers() -> dict[str, Callable[[], bytes]]:
    word = {"emb_params": entry([1, 2])}
    data = bytes(8)
    return {
        "a length of 2 ** 63": lambda: safetensors_bytes(b"{}", length=1 << 63),
        "a length of 100 MiB": lambda: safetensors_bytes(b"{}" + bytes(9 * MEBI), length=100 * MEBI),
        "a length beyond the file": lambda: safetensors_bytes(b"{}", length=3),
        "no tensor": lambda: safetensors_bytes({}),
        "metadata alone": lambda: safetensors_bytes({"__metadata__": {"a": "b"}}),
        "a list": lambda: safetensors_bytes(b"{}"[:1] + b"]"),
        "100,000 objects in each other": lambda: safetensors_bytes(b'{"a":' * 100_000),
        "700,000 empty lists": lambda: safetensors_bytes(b'{"a":[' + b"[]," * 690_000 + b"[]]}"),
        "180,000 tensors": lambda: safetensors_bytes(b"{" + b",".join(b'"%d":0' % i for i in range(180_000)) + b"}"),
        "a number of 1,000,000 digits": lambda: safetensors_bytes(b'{"a":' + b"9" * 1_000_000 + b"}"),
        "a name of a million letters": lambda: safetensors_bytes({"a" * 1_000_000: entry([1, 2])}, data),
        "a key twice": lambda: safetensors_bytes(
            b'{"a":%s,"a":%s}' % ((json.dumps(entry([1, 2])).encode(),) * 2), data
        ),
        "a dtype twice": lambda: safetensors_bytes(
            b'{"a":{"dtype":"F32","dtype":"F16","shape":[1,2],"data_offsets":[0,8]}}', data
        ),
        "metadata twice": lambda: safetensors_bytes(b'{"__metadata__":{},"__metadata__":{"a":"b"}}', data),
        "overlapping tensors": lambda: safetensors_bytes({"a": entry([1, 2]), "b": entry([1, 2], 4)}, bytes(12)),
        "one tensor as two": lambda: safetensors_bytes({"a": entry([1, 2]), "b": entry([1, 2])}, data),
        "a gap": lambda: safetensors_bytes({"a": entry([1, 2]), "b": entry([1, 2], 12)}, bytes(20)),
        "a gap at the start": lambda: safetensors_bytes({"a": entry([1, 2], 8)}, bytes(16)),
        "beyond the file": lambda: safetensors_bytes(word, bytes(7)),
        "appended data": lambda: safetensors_bytes(word, data + b"appended"),
        "a shape of 2 ** 62": lambda: _shaped([1 << 31, 1 << 31]),
        "a shape that wraps around": lambda: _shaped([1 << 32, 1 << 32, 0]),
        "a shape of zeros": lambda: _shaped([0, 1 << 62]),
        "a negative shape": lambda: _shaped([-1, -2]),
        "a shape of fractions": lambda: _shaped([1.0, 2.0]),
        "a shape of True": lambda: _shaped([True, 2]),
        "a shape of text": lambda: _shaped(["1", "2"]),
        "a shape of lists": lambda: _shaped([[1], [2]]),
        "a shape that is a number": lambda: _shaped(2),
        "nine dimensions": lambda: _shaped([1] * 8 + [2]),
        "a shape of 100,000 ones": lambda: _shaped([1] * 100_000 + [2]),
        "a shape that does not fit": lambda: _shaped([1, 3]),
        "negative offsets": lambda: _placed([-8, 0]),
        "offsets backwards": lambda: _placed([8, 0]),
        "three offsets": lambda: _placed([0, 4, 8]),
        "one offset": lambda: _placed([8]),
        "no offsets": lambda: safetensors_bytes({"a": {"dtype": "F32", "shape": [1, 2]}}, data),
        "more than is asked": lambda: safetensors_bytes({"a": entry([1, 2]) | {"run": "x"}}, data),
        "a number format that nobody knows": lambda: safetensors_bytes({"a": entry([1, 2], dtype="F31")}, data),
        "a number format that is a list": lambda: safetensors_bytes({"a": entry([1, 2]) | {"dtype": ["F32"]}}, data),
        "a tensor that is a text": lambda: safetensors_bytes({"a": "b"}, data),
        "a tensor that is null": lambda: safetensors_bytes({"a": None}, data),
        "metadata that is a list": lambda: safetensors_bytes({"__metadata__": ["a"]} | word, data),
        "metadata of numbers": lambda: safetensors_bytes({"__metadata__": {"a": 1}} | word, data),
        "NaN": lambda: _placed([0, float("nan")]),
        "not UTF-8": lambda: safetensors_bytes(b'{"\xff":0}', data),
        "half of a JSON": lambda: safetensors_bytes(b'{"a":', data),
        "something behind the JSON": lambda: safetensors_bytes(json.dumps(word).encode() + b" {}", data),
    }


def _shaped(shape: object) -> bytes:
    return safetensors_bytes({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 8]}}, bytes(8))


def _placed(offsets: list[object]) -> bytes:
    return safetensors_bytes({"a": {"dtype": "F32", "shape": [1, 2], "data_offsets": offsets}}, bytes(8))


@functools.cache
def _packed() -> bytes:
    return zlib.compress(bytes(BOMB), 1)


def _png_with_text(value: bytes) -> bytes:
    return png_bytes(chunk(b"tEXt", KEYWORD + b"\0" + value))


def _json(value: bytes) -> bytes:
    return _png_with_text(base64.b64encode(value))


def _pixels(data: bytes) -> bytes:
    picture = picture_around(data, Image.new("RGB", (64, 256), (200, 100, 50)))
    rows = b"".join(b"\0" + picture.crop((0, y, picture.width, y + 1)).tobytes() for y in range(picture.height))
    return png_bytes(width=picture.width, height=picture.height, packed=zlib.compress(rows))


def _patched(archive: bytes, method: int | None = None, flags: int | None = None, size: int | None = None) -> bytes:
    """The archive with something else in every entry of its directory."""
    made = bytearray(archive)
    at = made.find(b"PK\x01\x02")
    while at >= 0:
        for value, place, form in ((flags, 8, "<H"), (method, 10, "<H"), (size, 20, "<L"), (size, 24, "<L")):
            if value is not None:
                struct.pack_into(form, made, at + place, value)
        at = made.find(b"PK\x01\x02", at + 1)
    return bytes(made)


def _end(archive: bytes, count: int | None = None, length: int | None = None, begin: int | None = None) -> bytes:
    made = bytearray(archive)
    for value, places, form in ((count, (8, 10), "<H"), (length, (12,), "<L"), (begin, (16,), "<L")):
        for place in places if value is not None else ():
            struct.pack_into(form, made, len(made) - 22 + place, value)
    return bytes(made)


def _wide_sizes(size: int) -> bytes:
    """An archive of one member whose size stands in a 64-bit field."""
    member = b"archive/data.pkl"
    local = b"PK\x03\x04" + struct.pack("<5H3L2H", 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(member), 0) + member
    extra = struct.pack("<2H2Q", 1, 16, size, size)
    sizes = (0xFFFFFFFF, 0xFFFFFFFF, len(member), len(extra), 0, 0, 0, 0, 0)
    directory = b"PK\x01\x02" + struct.pack("<6H3L5H2L", 45, 45, 0, 0, 0, 0, 0, *sizes) + member + extra
    return _with_directory(local, [directory])


def _overlapping() -> bytes:
    """A member within the numbers of another, as in the bombs that unpack to petabytes."""
    inner = zip_bytes({"archive/data/1": bytes(100)})
    outer = zip_bytes({"archive/data/0": inner[: inner.find(b"PK\x01\x02")]})
    at = outer.find(b"PK\x01\x02")
    second = bytearray(inner[inner.find(b"PK\x01\x02") : -22])
    second[42:46] = struct.pack("<L", outer.find(b"archive/data/0") + len("archive/data/0"))
    return _with_directory(outer[:at], [outer[at:-22], bytes(second)])


def _one_as_many(copies: int) -> bytes:
    """A member of 1 MiB that the directory names a thousand times."""
    archive = zip_bytes({"archive/data/0": bytes(MEBI)})
    at = archive.find(b"PK\x01\x02")
    return _with_directory(archive[:at], [archive[at:-22]] * copies)


def _with_directory(members: bytes, entries: list[bytes]) -> bytes:
    directory, count = b"".join(entries), len(entries)
    end = struct.pack("<4H2LH", 0, 0, count, count, len(directory), len(members), 0)
    return members + directory + b"PK\x05\x06" + end


def _twins() -> bytes:
    return zip_bytes(_WORD | {"archive/Version": b"4\n"}).replace(b"archive/Version", b"archive/version")


def _two_large(size: int) -> bytes:
    count = size // 4
    tensors = tensor((count,), (1,), count) + tensor((count,), (1,), count, key="1")
    return torch_zip(b"\x80\x02](" + tensors + b"e.", {"0": bytes(size), "1": bytes(size)})
