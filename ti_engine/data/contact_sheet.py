"""Tensors to picture files: single PNGs, and sheets of captioned columns or rows."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_MARGIN, _LINE, _LETTER = 6, 15, 6  # px; a letter of Pillow's built-in font is about so wide
_PICTURE = 176  # px; captions of larger pictures are written larger


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
    width = max(pictures.shape[3] for _, pictures in columns)
    side, size = width + _MARGIN, max(1.0, width / _PICTURE)
    font = ImageFont.load_default(int(11 * size)) if size > 1 else ImageFont.load_default()
    captions = ["\n".join(textwrap.wrap(caption, int(side / (_LETTER * size)))) for caption, _ in columns]
    head = int(_LINE * size) * max(caption.count("\n") + 1 for caption in captions) + _MARGIN
    height = head + max(len(pictures) * (pictures.shape[2] + _MARGIN) for _, pictures in columns)
    sheet = Image.new("RGB", (len(columns) * side + _MARGIN, height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (caption, (_, pictures)) in enumerate(zip(captions, columns, strict=True)):
        left = _MARGIN + number * side
        draw.text((left, _MARGIN // 2), caption, fill="black", font=font)
        for row, picture in enumerate(pictures):
            sheet.paste(to_image(picture), (left, head + row * (picture.shape[1] + _MARGIN)))
    return sheet


def rows_of_pictures(pictures: Sequence[tuple[str, Tensor]], columns: int = 5) -> Image.Image:
    """(caption, picture [3, H, W] in 0..1) side by side in as many rows of `columns` as they need."""
    cells = [(caption, picture[None]) for caption, picture in pictures]
    rows = [contact_sheet(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet
