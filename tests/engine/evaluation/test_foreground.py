"""Masks: grey where they are black, the picture where they are white."""

from __future__ import annotations

import pytest
import torch

from ti_engine.evaluation.foreground import GREY, foreground


def test_the_background_becomes_grey_and_the_rest_stays() -> None:
    picture, mask = torch.rand(3, 8, 8), torch.zeros(8, 8)
    mask[:, :4] = 1
    kept = foreground(picture, mask)
    assert torch.equal(kept[:, :, :4], picture[:, :, :4]) and bool((kept[:, :, 4:] == GREY).all())
    assert foreground(picture, None) is picture


def test_a_mask_of_another_size_is_scaled() -> None:
    mask = torch.zeros(4, 4)
    mask[:2] = 1
    kept = foreground(torch.ones(3, 32, 32), mask)
    assert float(kept[:, 2].mean()) == 1 and float(kept[:, -2].mean()) == GREY


def test_a_mask_that_keeps_everything_fits_any_picture() -> None:
    picture = torch.rand(3, 20, 30)
    assert torch.allclose(foreground(picture, torch.ones(64, 64)), picture, atol=1e-6)  # as of Load Image, inverted


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (torch.zeros(4, 4), "covers nothing"),
        (torch.full((4, 4), 2.0), "outside of 0"),
        (torch.full((4, 4), torch.nan), "outside of 0"),
        (torch.ones(4, 8).triu(), "A mask is 8 x 4 pixels, its picture 4 x 4; give it the same shape"),
        (torch.ones(0, 4), "must be \\[height, width\\]"),
        (torch.ones(1, 4, 4), "must be \\[height, width\\]"),
    ],
)
def test_a_mask_that_cannot_be_meant_is_refused(mask: torch.Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        foreground(torch.ones(3, 4, 4), mask)
