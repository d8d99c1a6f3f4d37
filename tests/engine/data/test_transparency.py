"""Pictures over white, and what vanishes there."""

from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageDraw

from ti_engine.data.pictures import read_picture
from ti_engine.data.transparency import over_white, transparency_warnings


def cut_out(colour, alpha=1.0, size=(40, 40), area=(10, 10, 30, 30)):
    """A rectangle of one colour (grey or RGB) on nothing."""
    pixels = torch.zeros(len(colour) + 1, *size)
    left, top, right, bottom = area
    pixels[:-1, top:bottom, left:right] = torch.tensor(colour)[:, None, None]
    pixels[-1, top:bottom, left:right] = alpha
    return pixels


@pytest.mark.parametrize(
    ("pixel", "rgb"),
    [([0.2], [0.2] * 3), ([0, 0], [1] * 3), ([0.4, 0.5], [0.7] * 3), ([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]),
     ([1, 0, 0, 0.5], [1, 0.5, 0.5]), ([1, 0, 0, 0.5, 9], [1, 0.5, 0.5])],
)  # fmt: skip
def test_any_number_of_channels_is_put_on_white(pixel, rgb):
    picture = over_white(torch.tensor(pixel, dtype=torch.float32)[:, None, None].expand(-1, 16, 16))
    assert torch.allclose(picture[:, 3, 3], torch.tensor(rgb, dtype=torch.float32))


@pytest.mark.parametrize(
    "pixels", [cut_out([1, 1, 1]), cut_out([1.0]), cut_out([0.98, 1, 0.99], 0.4), torch.zeros(4, 40, 40)]
)
def test_what_vanishes_over_white_is_named(pixels):
    (warning,) = transparency_warnings(pixels, "logo.png")
    assert "logo.png" in warning


@pytest.mark.parametrize(
    "pixels",
    [
        cut_out([1, 0.2, 1]),
        cut_out([0.0]),
        torch.ones(3, 40, 40),  # white paper without alpha
        torch.ones(4, 40, 40),  # and with one that is opaque
        cut_out([1, 1, 1], area=(1, 1, 39, 39)),  # a white picture with a thin transparent rim
    ],
)
def test_what_can_be_seen_or_was_white_anyway_is_not(pixels):
    assert not transparency_warnings(pixels, "a")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_file_is_looked_at_too(tmp_path, mode):
    image = Image.new("RGBA", (600, 400))
    ImageDraw.Draw(image).ellipse((100, 100, 300, 300), fill="white")
    path = tmp_path / "logo.png"
    (image.quantize(16) if mode == "P" else image.convert(mode)).save(path)
    picture, warnings = read_picture(path)
    assert float(picture.min()) > 0.99
    assert len(warnings) == 1 and path.name in warnings[0] and "transparent" in warnings[0]
