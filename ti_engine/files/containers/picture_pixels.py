"""An embedding in the pixels of a picture, as A1111 writes it (modules/textual_inversion/image_embedding.py).

To the left and right of the picture, each behind a black column, stands a block of pixels. The lower four bits of its
numbers are scrambled half bytes of a zlib stream: the lower halves on the left, the upper ones on the right, row by
row. The stream is repeated to fill the blocks.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from ..limits import MAX_JSON
from ..refused import Refused

if TYPE_CHECKING:
    from PIL.Image import Image

_MULTIPLIER, _INCREMENT, _MASK = 1664525, 1013904223, 0xFFFFFFFF  # the generator of "Numerical Recipes"
_SHADE = 0x50  # the blocks' upper four bits, which nobody reads; not black, so that no reader crops them away
_CHANNELS = 3
_ZLIB = b"\x78\xda"  # how a stream of compression level 9 begins
_MAX_STREAM = MAX_JSON + (1 << 16)  # more than zlib makes of MAX_JSON bytes that cannot be compressed
_DAMAGED = "has an embedding in its pixels that is damaged (the picture was changed, or saved again with loss)"


def data_in_pixels(picture: Image) -> bytes | None:
    """What is in the pixels of an RGB picture; None for an ordinary picture.

    Raises Refused where there is something, but more than MAX_JSON bytes or not whole.
    """
    from PIL import ImageChops

    red, green, blue = picture.split()
    box = ImageChops.darker(ImageChops.darker(red, green), blue).getbbox()
    if box is None:
        return None
    low = picture.crop(box).point([value & 0x0F for value in range(256)] * _CHANNELS)
    red, green, blue = low.split()
    columns, _ = ImageChops.lighter(ImageChops.lighter(red, green), blue).getprojection()
    if columns.count(0) < 2:
        return None
    left = columns.index(0)
    right = len(columns) - columns[::-1].index(0)
    if left == 0 or left != low.width - right:
        return None
    lower, upper = (low.crop((x, 0, x + left, low.height)).tobytes()[:_MAX_STREAM] for x in (0, right))
    # One number as long as the block: the quickest way to shift and combine bytes without a library for it.
    lower_half, upper_half, noise = (
        int.from_bytes(half, "little") for half in (lower, upper, scrambled_bytes(len(lower)))
    )
    stream = ((lower_half ^ noise) | (upper_half ^ noise) << 4).to_bytes(len(lower), "little")
    return _unpacked(stream)


def picture_around(data: bytes, picture: Image) -> Image:
    """`picture` in RGB, with the blocks that hold `data` beside it."""
    from PIL import Image

    height = picture.height
    stream = zlib.compress(data, 9)
    length = len(stream) + height - len(stream) % height
    length += _CHANNELS * height - length % (_CHANNELS * height)
    stream = (stream * (length // len(stream) + 1))[:length]
    noise, width = scrambled_bytes(length), length // height // _CHANNELS
    lower = bytes((byte & 0x0F ^ hidden) | _SHADE for byte, hidden in zip(stream, noise, strict=True))
    upper = bytes((byte >> 4 ^ hidden) | _SHADE for byte, hidden in zip(stream, noise, strict=True))
    whole = Image.new("RGB", (2 * width + 2 + picture.width, height))
    whole.paste(Image.frombytes("RGB", (width, height), lower), (0, 0))
    whole.paste(picture.convert("RGB"), (width + 1, 0))
    whole.paste(Image.frombytes("RGB", (width, height), upper), (width + 2 + picture.width, 0))
    return whole


def scrambled_bytes(count: int) -> bytes:
    """The half bytes (0 to 15) that hide the data: seed <- multiplier * seed + increment, of that seed % 255."""
    import torch

    seeds = torch.tensor([_INCREMENT])  # int64, which wraps around at a multiple of 2**32
    multiplier, increment = _MULTIPLIER, _INCREMENT  # of as many steps at once as there are seeds
    while len(seeds) < min(count, 1 << 16):
        seeds = torch.cat([seeds, multiplier * seeds + increment & _MASK])
        multiplier, increment = multiplier * multiplier & _MASK, (multiplier + 1) * increment & _MASK
    pieces = []
    for _ in range(0, count, len(seeds)):
        pieces.append(bytes((seeds % 255 & 0x0F).tolist()))
        seeds = multiplier * seeds + increment & _MASK
    return b"".join(pieces)[:count]


def _unpacked(stream: bytes) -> bytes | None:
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(stream, MAX_JSON)
    except zlib.error as error:
        if not stream.startswith(_ZLIB):
            return None
        raise Refused(_DAMAGED) from error
    if unpacking.eof:
        return data
    if len(data) >= MAX_JSON:
        raise Refused(f"unpacks to more than {MAX_JSON:,} bytes, as a decompression bomb; it is not read")
    raise Refused(_DAMAGED)
