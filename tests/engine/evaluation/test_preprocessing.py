"""Pictures for image towers: the numbers of transformers' own processors, up to a level of rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ti_engine.data.contact_sheet import to_image
from ti_engine.evaluation.preprocessing import CLIP_STD, Preprocessing, read_preprocessing

LEVEL = 1 / 255 / min(CLIP_STD)  # one of 8 bit, normalised


def pictures() -> list[Tensor]:
    torch.manual_seed(0)
    soft = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 17), size=(240, 340), mode="bilinear")[0]
    return [torch.rand(3, 97, 61), soft, torch.rand(3, 64, 64), torch.rand(3, 20, 31)]


def levels(picture: Tensor) -> Tensor:
    return (picture * 255).round() / 255


@pytest.mark.parametrize("side", [32, 64])
def test_the_numbers_are_those_of_transformers(side: int) -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=side)
    ours = Preprocessing(side, side)([levels(picture) for picture in pictures()])
    for picture, own in zip(pictures(), ours, strict=True):
        theirs = processor(to_image(picture), return_tensors="pt")["pixel_values"][0]
        difference = (own - theirs).abs()
        assert own.shape == theirs.shape and float(difference.max()) <= 1.01 * LEVEL
        assert float((difference > 1e-5).float().mean()) < 0.01  # of pixels where the rounding falls the other way


def test_settings_of_a_folder_and_what_they_leave_out() -> None:
    default = Preprocessing(30, 30)
    assert read_preprocessing({}, default, "x") == default
    read = read_preprocessing({"size": 64, "crop_size": 48, "image_mean": [0, 0, 0], "resample": 2}, default, "x")
    assert read == Preprocessing(64, 48, (0, 0, 0), default.std, "bilinear")
    whole = read_preprocessing({"size": {"height": 40, "width": 40}, "do_center_crop": False}, default, "x")
    assert (whole.size, whole.crop) == ((40, 40), None)
    assert whole(pictures()).shape == (4, 3, 40, 40)


@pytest.mark.parametrize(
    "settings",
    [{"crop_size": 40}, {"do_center_crop": False}, {"do_normalize": False}],
)
def test_settings_of_another_kind_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=r"x/preprocessor_config\.json asks for pictures in a way"):
        read_preprocessing(settings, Preprocessing(30, 30), "x")


@pytest.mark.parametrize("resample", [0, 1, "bicubic", 2.5, [3]])
def test_another_way_to_scale_is_refused(resample: object) -> None:
    with pytest.raises(ValueError, match=r"x/preprocessor_config\.json has resample .* only 2 \(bilinear\), 3"):
        read_preprocessing({"resample": resample}, Preprocessing(30, 30), "x")


@pytest.mark.parametrize(
    "settings",
    [
        {"image_mean": 0.5},
        {"image_mean": [0.5]},
        {"image_mean": ["a"] * 3},
        {"image_std": 0.5},
        {"image_std": [0, 1, 1]},
    ],
)
def test_numbers_that_are_not_one_a_channel_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=r"x/preprocessor_config\.json has image_.* a list of three numbers"):
        read_preprocessing(settings, Preprocessing(30, 30), "x")
