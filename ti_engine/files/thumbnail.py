"""Small pictures of a word: inside the metadata, where file lists show them, and as the carrier of A1111's pictures."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 256  # px of the longer side, as ModelSpec recommends
CARRIER_SIDE = 512
_QUALITY = 85


def thumbnail(picture: Image) -> str:
    """A data URL of an RGB picture as a small JPEG, made of the pixels alone: nothing that a camera wrote."""
    buffer = io.BytesIO()
    _scaled(picture, SIDE).save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def carrier(picture: Image) -> Image:
    """An RGB picture at the size of one that carries a word."""
    return _scaled(picture, CARRIER_SIDE)


def _scaled(picture: Image, side: int) -> Image:
    """A copy whose longer side has at most `side` pixels."""
    scaled = picture.copy()
    scaled.info.clear()
    scaled.thumbnail((side, side))
    return scaled
