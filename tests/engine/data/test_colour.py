"""Pictures with colour profiles."""

from __future__ import annotations

import pytest
from PIL import Image, ImageCms

from ti_engine.data.pictures import read_picture

from .icc_profiles import DISPLAY_P3, cmyk_profile, grey_profile, rgb_profile

P3 = rgb_profile(DISPLAY_P3, 2.2)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def read(tmp_path):
    def save_and_read(image, name="picture.png", **options):
        image.save(tmp_path / name, **options)
        picture, warnings = read_picture(tmp_path / name)
        return (picture * 255).round().int(), warnings

    return save_and_read


def test_display_p3_becomes_srgb(read):
    """The expected numbers: P3 to XYZ to sRGB by the two standards' matrices, with a gamma of 2.2."""
    picture, warnings = read(Image.new("RGB", (20, 20), (200, 100, 50)), icc_profile=P3)
    assert not warnings
    assert picture[:, 5, 5].tolist() == pytest.approx([216, 93, 24], abs=3)
    grey, _ = read(Image.new("RGB", (20, 20), (128, 128, 128)), icc_profile=P3)
    assert grey[:, 5, 5].tolist() == pytest.approx([128] * 3, abs=2)


def test_a_profile_of_srgb_changes_nothing(read):
    image = Image.effect_noise((40, 30), 90).convert("RGB")
    picture, warnings = read(image, icc_profile=SRGB)
    assert not warnings
    assert picture.permute(1, 2, 0).flatten().tolist() == pytest.approx(list(image.tobytes()), abs=1)


@pytest.mark.parametrize("file", ["picture.png", "picture.webp", "picture.tiff"])
def test_transparency_stays_beside_a_profile(read, file):
    image = Image.new("RGBA", (20, 20), (200, 100, 50, 255))
    image.paste((200, 100, 50, 0), (0, 0, 10, 20))
    picture, _ = read(image, file, icc_profile=P3, **({"lossless": True} if file.endswith("webp") else {}))
    assert picture[:, 5, 2].tolist() == [255, 255, 255]
    assert picture[:, 5, 15].tolist() == pytest.approx([216, 93, 24], abs=3)


def test_a_palette_has_the_colours_of_its_profile(read):
    picture, _ = read(Image.new("RGB", (20, 20), (200, 100, 50)).quantize(2), icc_profile=P3)
    assert picture[:, 5, 5].tolist() == pytest.approx([216, 93, 24], abs=3)


@pytest.mark.parametrize("image", [Image.new("L", (20, 20), 128), Image.new("I;16", (20, 20), 128 * 257)])
def test_grey_is_as_bright_as_its_profile_says(read, image):
    dark, warnings = read(image, icc_profile=grey_profile(3.0))
    assert not warnings
    expected = round(255 * (1.055 * (128 / 255) ** (3.0 / 2.4) - 0.055))  # sRGB's curve of linear light
    assert dark[:, 5, 5].tolist() == pytest.approx([expected] * 3, abs=2)


def test_cmyk_prints_as_its_profile_says(read):
    profile = cmyk_profile(paper=(255, 128, 128), ink=(137, 209, 195))  # Lab of white and of sRGB's pure red
    white, warnings = read(Image.new("CMYK", (20, 20), (0, 0, 0, 0)), "picture.tiff", icc_profile=profile)
    assert not warnings and white[:, 5, 5].tolist() == pytest.approx([255] * 3, abs=2)
    red, _ = read(Image.new("CMYK", (20, 20), (0, 255, 0, 0)), "picture.tiff", icc_profile=profile)
    assert red[0, 5, 5] > 240 and red[1:, 5, 5].max() < 40


def test_cmyk_without_a_profile_is_a_guess(read):
    _, warnings = read(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "picture.jpg")
    assert len(warnings) == 1 and "picture.jpg" in warnings[0] and "CMYK" in warnings[0]


def test_lab_is_read(read):
    white, _ = read(Image.new("LAB", (20, 20), (255, 128, 128)), "picture.tiff")
    assert white[:, 5, 5].tolist() == pytest.approx([255] * 3, abs=2)


@pytest.mark.parametrize("profile", [b"no profile at all", P3[:200], P3[:128] + bytes(400), SRGB[:-30], bytes(128)])
def test_a_damaged_profile_never_stops_a_picture(read, profile):
    picture, _ = read(Image.new("RGB", (20, 20), (200, 100, 50)), icc_profile=profile)
    assert picture[:, 5, 5].tolist() == pytest.approx([200, 100, 50], abs=15)


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("RGB", b"no profile at all"),
        ("RGB", grey_profile(2.2)),
        ("RGBA", cmyk_profile((0, 0, 0), (0, 0, 0))),
        ("L", P3),
    ],
)
def test_a_profile_that_cannot_be_used_is_a_warning_with_the_name(read, mode, profile):
    image = Image.new("RGB", (20, 20), (200, 100, 50)).convert(mode)
    plain, _ = read(image)
    picture, warnings = read(image, icc_profile=profile)
    assert picture.tolist() == plain.tolist()
    assert len(warnings) == 1 and "picture.png" in warnings[0] and "profile" in warnings[0]
