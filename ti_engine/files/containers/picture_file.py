"""A1111's embeddings in pictures: as JSON in a text chunk of a PNG, and once more in the pixels (picture_pixels.py).

Pictures are read from PNG and from lossless WebP, whose size stands where it can be read before anything is unpacked.
"""

from __future__ import annotations

import base64
import binascii
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

from ..limits import MAX_CHUNKS, MAX_JSON, MAX_PICTURE, MAX_PIXELS
from ..refused import Refused
from ..source import Source
from .picture_json import parse_json, with_tensors, write_json
from .picture_pixels import data_in_pixels, picture_around

if TYPE_CHECKING:
    from PIL.Image import Image

_KEYWORD = "sd-ti-embedding"
_PNG = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")  # Pillow gets to see no others
_MAX_TEXT = MAX_JSON * 4 // 3 + 4  # base64
_BROKEN = "is a broken picture; download it again"
_NOTHING = "is a picture without an embedding in it"
_DIFFERENT = "The text and the pixels of the picture hold different embeddings; the text is used, as by A1111."
_NO_PIXELS = "The text of the picture holds an embedding, its pixels none that can be read; the text is used."
_NO_TEXT = "The text of the picture holds a broken embedding; the one in its pixels is used."
_NO_PILLOW = "Pillow is not installed, so the pixels of the picture were not compared with its text."


def read_picture(source: Source) -> tuple[dict[str, Any], list[str]]:
    """A1111's dict with float32 tensors, and sentences about where its two copies in the picture disagree.

    Raises Refused for an ordinary picture, and for one that is damaged or too large.
    """
    if source.size > MAX_PICTURE:
        raise Refused(f"is a picture of {source.size:,} bytes, and at most {MAX_PICTURE:,} are read")
    text, picture = _png(source) if source.head(8) == _PNG else (None, _webp(source))
    if text is None:
        try:
            found = _in_pixels(picture)
        except ImportError as error:
            raise Refused(
                "is a picture, and to look into it needs Pillow; install it with: pip install pillow"
            ) from error
        if found is None:
            raise Refused(_NOTHING)
        return with_tensors(found), []
    try:
        found = parse_json(_text_data(text))
    except Refused:
        found = _in_pixels(picture)
        if found is None:
            raise
        return with_tensors(found), [_NO_TEXT]
    return with_tensors(found), _comparison(found, picture)


def write_picture(content: dict[str, Any], picture: Image) -> bytes:
    """A PNG of `picture` with A1111's dict `content` in its text and in pixels beside it, as A1111 writes it.

    content: str -> tensors, text, numbers, None, and dicts and lists of them; tensors are kept exactly up to float64.
    Raises ValueError for other content, and where it is too much for the picture's height.
    """
    from PIL.PngImagePlugin import PngInfo

    data = write_json(content)
    whole = picture_around(data, picture) if len(data) <= MAX_JSON else None
    if whole is None or whole.width * whole.height > MAX_PIXELS or data_in_pixels(whole) != data:
        raise ValueError(
            f"The embedding does not fit into a picture of {picture.width} x {picture.height} pixels; take one of "
            "512 x 512 or more, or save it as safetensors."
        )
    information = PngInfo()
    information.add_text(_KEYWORD, base64.b64encode(data).decode("ascii"))
    file = io.BytesIO()
    whole.save(file, "PNG", pnginfo=information)
    return file.getvalue()


def _comparison(found: dict[str, Any], picture: bytes) -> list[str]:
    try:
        in_pixels = _in_pixels(picture)
    except ImportError:
        return [_NO_PILLOW]
    except Refused:
        return [_NO_PIXELS]
    if in_pixels is None:
        return [_NO_PIXELS]
    return [] if in_pixels == found else [_DIFFERENT]


def _in_pixels(picture: bytes) -> dict[str, Any] | None:
    """A1111's dict with its tensors as lists, from a picture whose size was checked. None for an ordinary picture."""
    # The decoders themselves: Image.open tells of broken pictures by a warning too, past the one who asked.
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    try:
        with (PngImageFile if picture.startswith(_PNG) else WebPImageFile)(io.BytesIO(picture)) as opened:
            if opened.mode.startswith(("I", "F")):  # 16 bits of grey
                return None
            colours = opened.convert("RGB")
    except Exception as error:  # what a decoder of Pillow's raises for broken pictures is written nowhere
        raise Refused(_BROKEN) from error
    data = data_in_pixels(colours)
    return None if data is None else parse_json(data)


def _png(source: Source) -> tuple[bytes | None, bytes]:
    """What stands behind the keyword, as base64, and the picture without all that its pixels do not need."""
    text, kept, at = None, [_PNG], 8
    for number in range(MAX_CHUNKS):
        length, kind = struct.unpack(">L4s", source.read(at, 8))
        chunk = bytes(source.read(at, length + 12))
        body = chunk[8:-4]
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise Refused("is a damaged picture (a checksum in it is wrong); download it again")
        if (kind == b"IHDR") != (number == 0):
            raise Refused(_BROKEN)
        if kind == b"IHDR":
            _check_pixels(*struct.unpack(">2L", body[:8].ljust(8, b"\0")))
        if kind in _PIXEL_CHUNKS:
            kept.append(chunk)
        elif (found_text := _text(kind, body)) is not None:
            if text is not None:
                raise Refused("is a picture with two embeddings in its text; which one is meant, nobody can tell")
            text = found_text
        at += length + 12
        if kind == b"IEND":
            break
    else:
        raise Refused(f"is a picture of more than {MAX_CHUNKS:,} pieces; save it again")
    if at < source.size:
        raise Refused(f"goes on for {source.size - at:,} bytes behind the picture's end; download it again")
    return text, b"".join(kept)


def _text(kind: bytes, body: bytes) -> bytes | None:
    """The text of a text chunk with A1111's keyword."""
    keyword, _, text = body.partition(b"\0")
    if kind not in (b"tEXt", b"zTXt", b"iTXt") or keyword != _KEYWORD.encode("ascii"):
        return None
    packed, packing = kind == b"zTXt", text[:1]
    if kind == b"iTXt":  # what some programs make of the others when they save a picture again
        packed, packing = text[:1] == b"\1", text[1:2]
        text = text[2:].split(b"\0", 2)[-1]  # behind the language and the keyword in it
    elif packed:
        text = text[1:]
    if not packed:
        return text
    if packing != b"\0":
        raise Refused(_BROKEN)
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(text, _MAX_TEXT + 1)
    except zlib.error as error:
        raise Refused(_BROKEN) from error
    if len(text) > _MAX_TEXT:
        raise Refused(f"unpacks to more than {_MAX_TEXT:,} bytes of text, as a decompression bomb; it is not read")
    if not unpacking.eof:
        raise Refused(_BROKEN)
    return text


def _text_data(text: bytes) -> bytes:
    if len(text) > _MAX_TEXT:
        raise Refused(f"holds {len(text):,} bytes of text, and at most {_MAX_TEXT:,} are read")
    try:
        return base64.b64decode(text.translate(None, b" \t\r\n"), validate=True)
    except binascii.Error as error:
        raise Refused("has an embedding in its text that is broken: it is not base64") from error


def _webp(source: Source) -> bytes:
    """The whole file, once its sizes are checked: the canvas where there is one, and the picture (RFC 9649, 2)."""
    end = 8 + int.from_bytes(source.read(4, 4), "little")
    if end > source.size:
        raise Refused(f"is cut off: {source.size:,} of {end:,} bytes; download it again")
    if end < source.size:
        raise Refused(f"goes on for {source.size - end:,} bytes behind the picture's end; download it again")
    at = 12
    for _ in range(MAX_CHUNKS):
        kind, length = struct.unpack("<4sL", source.read(at, 8))
        if kind == b"VP8X":
            sizes = bytes(source.read(at + 12, 6))
            _check_pixels(*(1 + int.from_bytes(size, "little") for size in (sizes[:3], sizes[3:])))
        elif kind == b"VP8L":
            bits = int.from_bytes(source.read(at + 9, 4), "little")
            _check_pixels(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
            return bytes(source.read(0, source.size))
        elif kind in (b"VP8 ", b"ANMF"):
            how = "with loss, which destroys what is hidden in pixels" if kind == b"VP8 " else "as an animation"
            raise Refused(f"is a WebP picture saved {how}, so there is no embedding in it")
        at += 8 + length + length % 2
    raise Refused(_BROKEN)


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Refused(f"is a picture of {width:,} x {height:,} pixels, and at most {MAX_PIXELS:,} in all are read")
