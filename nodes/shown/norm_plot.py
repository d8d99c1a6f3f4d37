"""The lengths of a word's vectors as a picture, beside the length that words of the vocabulary have."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image, ImageDraw
from torch import Tensor

from ...ti_engine import TokenEmbedding
from .image_batch import image_batch

_WIDTH, _PANEL = 768, 240  # px; a panel for each text encoder
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 36, 28  # px around the bars
_INK, _GRID, _BAR, _USUAL = "#222222", "#e4e4e4", "#2f6db5", "#d1602e"
_WIDEST_BAR = 48  # px
_MOST_NUMBERED = 32  # vectors; the numbers of more would run together


def norm_plot(embedding: TokenEmbedding, usual: Mapping[str, float]) -> Tensor:
    """IMAGE [1, 240 for each encoder, 768, 3] in 0..1: a bar for the norm of each vector.

    usual: encoder key -> usual norm of its vocabulary, drawn as a line; may lack encoders.
    """
    image = Image.new("RGB", (_WIDTH, _PANEL * len(embedding.vectors)), "white")
    draw = ImageDraw.Draw(image)
    for place, (key, rows) in enumerate(embedding.vectors.items()):
        _draw_panel(draw, place * _PANEL, key, rows.double().norm(dim=1).tolist(), usual.get(key))
    return image_batch(image)


def _draw_panel(draw: ImageDraw.ImageDraw, top: int, key: str, norms: list[float], usual: float | None) -> None:
    highest = max([*norms, usual or 0.0]) * 1.1 or 1.0
    bottom, height = top + _PANEL - _BOTTOM, _PANEL - _TOP - _BOTTOM
    for part in range(5):
        y = bottom - part / 4 * height
        draw.line((_LEFT, y, _WIDTH - _RIGHT, y), fill=_GRID)
        draw.text((8, y - 6), f"{highest * part / 4:.3g}", fill=_INK)
    step = (_WIDTH - _LEFT - _RIGHT) / len(norms)
    bar = max(1.0, min(_WIDEST_BAR, step * 0.7))
    for number, norm in enumerate(norms):
        middle = _LEFT + (number + 0.5) * step
        draw.rectangle((middle - bar / 2, bottom - norm / highest * height, middle + bar / 2, bottom), fill=_BAR)
        if len(norms) <= _MOST_NUMBERED:
            draw.text((middle - 3, bottom + 6), str(number + 1), fill=_INK)
    draw.text((_LEFT, top + 10), f"{_ascii(key)}: norm of each vector", fill=_INK)
    if usual is not None:
        y = bottom - usual / highest * height
        draw.line((_LEFT, y, _WIDTH - _RIGHT, y), fill=_USUAL, width=2)
        draw.text((_LEFT + 320, top + 10), f"a word of the vocabulary: {usual:.3g}", fill=_USUAL)


def _ascii(text: str) -> str:
    """Keys come from files, and the built-in font has few letters."""
    return text[:32].encode("ascii", "replace").decode()
