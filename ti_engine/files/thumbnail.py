"""Small pictures of a word: inside the metadata, where file lists show them, and as the carrier of A1111's pictures."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 256  # px of the longer side, as ModelSpec recommends
CARRIER_SIDE = 512
_QUALITY = 85


def thumbnail(picture: Tensor) -> str:
    """A data URL of `picture` [3, H, W] in 0..1 as a small JPEG, made of the pixels alone: nothing a camera wrote."""
    buffer = io.BytesIO()
    _scaled(picture, SIDE).save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def carrier(picture: Tensor) -> Image:
    """`picture` [3, H, W] in 0..1 at the size of a picture that carries a word."""
    return _scaled(picture, CARRIER_SIDE)


def _scaled(picture: Tensor, side: int) -> Image:
    from ..data.contact_sheet import to_image

    scale = min(1.0, side / max(picture.shape[1:]))
    size = [max(1, round(length * scale)) for length in picture.shape[1:]]
    return to_image(F.interpolate(picture[None].float().cpu(), size=size, mode="bicubic", antialias=True)[0])
