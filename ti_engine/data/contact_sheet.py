"""Tensors to picture files: single PNGs, and sheets of captioned columns."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

_MARGIN, _LINE, _LETTER = 6, 15, 6  # px; a letter of Pillow's built-in font is about so wide


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


def contact_sheet(columns: Sequence[tuple[str, Tensor]]) -> Image.Image:
    """One column of pictures [N, 3, H, W] in 0..1 for each (caption, pictures), the caption above it."""
    side = max(pictures.shape[3] for _, pictures in columns) + _MARGIN
    captions = ["\n".join(textwrap.wrap(caption, side // _LETTER)) for caption, _ in columns]
    head = _LINE * max(caption.count("\n") + 1 for caption in captions) + _MARGIN
    height = head + max(len(pictures) * (pictures.shape[2] + _MARGIN) for _, pictures in columns)
    sheet = Image.new("RGB", (len(columns) * side + _MARGIN, height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (caption, (_, pictures)) in enumerate(zip(captions, columns, strict=True)):
        left = _MARGIN + number * side
        draw.text((left, _MARGIN // 2), caption, fill="black")
        for row, picture in enumerate(pictures):
            sheet.paste(to_image(picture), (left, head + row * (picture.shape[1] + _MARGIN)))
    return sheet
