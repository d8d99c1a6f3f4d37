"""The loss curve as a picture, for graphs that keep or compare runs."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from ...ti_engine import TrainRecord
from .image_batch import image_batch
from .loss_curve import Point, chart_of

_WIDTH, _HEIGHT = 768, 432  # px
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 32, 40  # px around the curve
_INK, _GRID, _BATCH, _SMOOTH, _FIXED = "#222222", "#e4e4e4", "#b9cfe8", "#2f6db5", "#d1602e"


def loss_plot(record: TrainRecord) -> Tensor:
    """IMAGE [1, 432, 768, 3] in 0..1: loss of the batches, smoothed, and on the fixed evaluation set."""
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    chart = chart_of(record, 0)
    scale = _Scale([*chart["smoothed"], *chart["evaluations"]])
    _draw_axes(draw, scale)
    _draw_line(draw, scale, chart["batches"], _BATCH, 1)
    _draw_line(draw, scale, chart["smoothed"], _SMOOTH, 2)
    for point in chart["evaluations"]:
        x, y = scale(point)
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_FIXED)
    legend = (("loss of batches", _BATCH), ("smoothed", _SMOOTH), ("fixed evaluation set", _FIXED))
    for (text, colour), left in zip(legend, (96, 216, 296), strict=True):
        draw.line((left - 20, 16, left - 6, 16), fill=colour, width=3)
        draw.text((left, 10), text, fill=_INK)
    return image_batch(image)


class _Scale:
    """From (step, loss) to pixels; single batches may lie outside and are cut off at the frame."""

    def __init__(self, points: Sequence[Point]) -> None:
        losses = [loss for _, loss in points] or [0.0, 1.0]
        margin = (max(losses) - min(losses)) * 0.1 or abs(losses[0]) * 0.1 or 1.0
        self.low, self.high = min(losses) - margin, max(losses) + margin
        self.last = max([step for step, _ in points] or [1.0]) or 1.0

    def __call__(self, point: tuple[float, float]) -> tuple[float, float]:
        step, loss = point
        share = min(1.0, max(0.0, (loss - self.low) / (self.high - self.low)))
        x = _LEFT + step / self.last * (_WIDTH - _LEFT - _RIGHT)
        return x, _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _draw_axes(draw: ImageDraw.ImageDraw, scale: _Scale) -> None:
    for part in range(5):
        loss = scale.low + part / 4 * (scale.high - scale.low)
        x, y = scale((0, loss))
        draw.line((x, y, _WIDTH - _RIGHT, y), fill=_GRID)
        draw.text((8, y - 6), f"{loss:.4g}", fill=_INK)
        step = scale.last * part / 4
        draw.text((scale((step, scale.low))[0] - 10, _HEIGHT - _BOTTOM + 6), f"{step:.0f}", fill=_INK)
    draw.text((_WIDTH // 2, _HEIGHT - 18), "step", fill=_INK)


def _draw_line(draw: ImageDraw.ImageDraw, scale: _Scale, points: Sequence[Point], colour: str, width: int) -> None:
    if len(points) > 1:
        draw.line([scale(point) for point in points], fill=colour, width=width)
