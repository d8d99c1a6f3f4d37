"""Warnings about pictures that teach little."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from ti_engine.data.picture_checks import blur, picture_warnings
from ti_engine.data.pictures import prepare_pictures
from ti_engine.demo.examples import example_pictures


def tensor(image: Image.Image) -> Tensor:
    image = image.convert("RGB")
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.reshape(image.height, image.width, 3).permute(2, 0, 1).float() / 255


def photo(seed: int, size: tuple[int, int] = (400, 400)) -> Image.Image:
    """Soft shading with sharp things in front of it, unlike any other seed's."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(3, 4, 4, generator=generator)
    soft = torch.nn.functional.interpolate(coarse[None], size=size[::-1], mode="bicubic")[0].clamp(0, 1)
    image = Image.fromarray((soft * 255).byte().permute(1, 2, 0).contiguous().numpy())
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, radius, *colour = torch.rand(6, generator=generator).tolist()
        left, top, side = int(x * size[0] * 0.7), int(y * size[1] * 0.7), int((0.1 + 0.2 * radius) * min(size))
        draw.ellipse((left, top, left + side, top + side), fill=tuple(int(255 * c) for c in colour))
    return image


def drawing(place: int, size: int = 512, radius: int = 40) -> Image.Image:
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).ellipse((place, place, place + 2 * radius, place + 2 * radius), fill=(230, 90, 80))
    return image


def warnings_of(*images: Image.Image, resolution: int = 256) -> list[str]:
    names = [f"{letter}.png" for letter, _ in zip("abcdefgh", images, strict=False)]
    return picture_warnings([tensor(image) for image in images], names, resolution)


def test_usual_pictures_are_nothing_to_warn_of():
    sizes = [(400, 400), (600, 400), (400, 600), (711, 400), (256, 256), (200, 200)]
    assert warnings_of(*(photo(seed, size) for seed, size in enumerate(sizes))) == []


def test_flat_drawings_are_neither_blurred_nor_blank_nor_all_the_same():
    assert picture_warnings(list(example_pictures()), "abcd", 128) == []
    assert warnings_of(*(drawing(place) for place in (20, 200, 380))) == []
    assert warnings_of(*(drawing(place, radius=12) for place in (20, 200, 380))) == []
    assert picture_warnings(list(example_pictures()), "abcd", 248) == []  # scaled up a little


@pytest.mark.parametrize(
    ("size", "lost", "sides"),
    [((1600, 200), "88%", "left and right"), ((300, 1200), "75%", "top and bottom"), ((512, 256), "50%", "left")],
)
def test_a_long_picture_says_how_much_is_cut_away(size, lost, sides):
    (warning,) = warnings_of(photo(0), photo(1, size), resolution=128)
    assert "b.png" in warning and lost in warning and sides in warning


@pytest.mark.parametrize(("size", "times"), [((17, 17), "15.1"), ((128, 180), "2.0"), ((500, 60), "4.3")])
def test_a_small_picture_says_how_far_it_is_scaled_up(size, times):
    warnings = warnings_of(photo(0), photo(1, size))
    assert any("b.png" in w and times in w and "scaled up" in w for w in warnings)
    assert not any("blurred" in w or "a.png" in w for w in warnings)


@pytest.mark.parametrize("colour", ["white", "black", (120, 30, 200), (253, 252, 254)])
def test_a_blank_picture_is_named(colour):
    (warning,) = warnings_of(photo(0), Image.new("RGB", (300, 300), colour))
    assert "b.png" in warning and "all over" in warning


def test_a_black_picture_with_noise_is_blank_too():
    noise = Image.effect_noise((300, 300), 12).point([max(0, level - 120) for level in range(256)])
    (warning,) = warnings_of(noise)
    assert "all over" in warning


def test_blank_pictures_are_not_called_the_same():
    assert all("all over" in warning for warning in warnings_of(*[Image.new("RGB", (300, 300), "white")] * 2))


def compressed(image: Image.Image, quality: int = 40) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


@pytest.mark.parametrize(
    "again",
    [lambda i: i, compressed, lambda i: i.resize((700, 700)), lambda i: i.convert("P").convert("RGB")],
    ids=["equal", "compressed", "scaled", "few colours"],
)
def test_the_same_picture_again_is_named_once(again):
    one = photo(3)
    (warning,) = warnings_of(one, photo(4), again(one), again(one))
    assert "a.png" in warning and "c.png and d.png" in warning and "3 times" in warning and "b.png" not in warning


@pytest.mark.parametrize("picture", list(example_pictures()))
def test_the_same_drawing_again_is_named_too(picture):
    again = compressed(Image.fromarray((picture * 255).byte().permute(1, 2, 0).contiguous().numpy()))
    (warning,) = picture_warnings([picture, tensor(again)], "ab", 128)
    assert "b shows the same as a" in warning


def test_similar_pictures_are_not_the_same():
    one = photo(5)
    moved = Image.new("RGB", one.size)
    moved.paste(one, (6, 0))
    bright = one.point([min(255, int(level * 1.2)) for level in range(256)] * 3)
    mirrored = one.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert warnings_of(one, moved, bright, mirrored) == []


@pytest.mark.parametrize("make", [photo, lambda seed: drawing(100 + 40 * seed, radius=100)], ids=["photo", "drawing"])
@pytest.mark.parametrize("resolution", [128, 256, 384])
def test_a_blurred_picture_is_named_at_the_size_that_is_learned_from(make, resolution):
    one = make(1)
    scale = min(one.size) / resolution
    out_of_focus = make(2).filter(ImageFilter.GaussianBlur(5 * scale))
    (warning,) = warnings_of(one, out_of_focus, resolution=resolution)
    assert "b.png" in warning and "blurred" in warning
    # A little blur in a large file is none at the size that is learned from.
    assert warnings_of(one, make(2).filter(ImageFilter.GaussianBlur(0.7 * scale)), resolution=resolution) == []


def test_a_sharp_thing_before_a_blurred_background_is_sharp():
    image = photo(1).filter(ImageFilter.GaussianBlur(20))
    image.paste(photo(2).crop((100, 100, 250, 250)), (120, 120))
    assert warnings_of(image) == []


def test_soft_shading_beside_edges_is_no_blur():
    n = 300
    x = torch.linspace(-1, 1, n)[None].expand(n, n)
    distance = (x * x + x.T * x.T) / 0.4
    sphere = torch.where(distance < 1, (1 - distance).clamp(min=0).sqrt() * 0.8 + 0.1, 0.5 + 0.4 * x.T)
    assert picture_warnings([sphere.expand(3, n, n)], ["sphere"], 256) == []


def test_motion_along_one_axis_is_blur():
    square = prepare_pictures([tensor(photo(7))], 256)[0]
    along = torch.nn.functional.avg_pool2d(square[None], (1, 25), 1, (0, 12), count_include_pad=False)[0]
    assert blur(square) < 0.3 < 0.65 < blur(along)


def test_a_picture_that_cannot_be_learned_from_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"photo\.tif has NaN"):
        picture_warnings([torch.full((3, 64, 64), torch.nan)], ["photo.tif"], 64)
