"""Tensors to picture files: single PNGs, and sheets of captioned rows."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

_MARGIN, _TEXT = 6, 16  # px


def to_image(picture: Tensor) -> Image.Image:
    """A picture [3, H, W] in 0..1 as an 8 bit image."""
    levels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu()
    return Image.fromarray(levels.numpy())


def png_bytes(picture: Tensor | Image.Image) -> bytes:
    """The content of a PNG file of a picture [3, H, W] in 0..1."""
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else to_image(picture)
    image.save(buffer, "PNG")
    return buffer.getvalue()


def contact_sheet(rows: Sequence[tuple[str, Tensor]]) -> Image.Image:
    """One row of pictures [N, 3, H, W] in 0..1 for each (caption, pictures), the caption above it."""
    height = sum(_TEXT + pictures.shape[2] + _MARGIN for _, pictures in rows) + _MARGIN
    width = max(len(pictures) * (pictures.shape[3] + _MARGIN) for _, pictures in rows) + _MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN
    for caption, pictures in rows:
        draw.text((_MARGIN, top), caption, fill="black")
        for column, picture in enumerate(pictures):
            sheet.paste(to_image(picture), (_MARGIN + column * (picture.shape[2] + _MARGIN), top + _TEXT))
        top += _TEXT + pictures.shape[2] + _MARGIN
    return sheet
