import struct
import warnings

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ti_engine.data.pictures import load_picture, prepare_pictures, read_picture

ORANGE = (255, 128, 0)
EXIF_ORIENTATION = 0x112


@pytest.fixture
def saved(tmp_path):
    def save(image: Image.Image, name: str = "picture.png", **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def colours(picture: Tensor) -> Tensor:
    """[3, H, W] in 0..1 as the bytes that a file would hold."""
    return (picture * 255).round().int()


def test_an_rgb_picture_is_read_exactly(saved):
    image = Image.effect_noise((30, 20), 90).convert("RGB")
    picture = load_picture(saved(image))
    assert picture.shape == (3, 20, 30)
    assert picture.dtype == torch.float32
    assert colours(picture).permute(1, 2, 0).flatten().tolist() == list(image.tobytes())


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", ORANGE, ORANGE),
        ("L", 100, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 257 * 100, (100, 100, 100)),
        ("I;16", 200, (1, 1, 1)),
        ("RGBA", (*ORANGE, 255), ORANGE),
        ("RGBA", (*ORANGE, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("LA", (0, 51), (204, 204, 204)),
    ],
)
def test_every_mode_of_png_becomes_rgb_over_white(saved, mode, colour, expected):
    picture = load_picture(saved(Image.new(mode, (20, 16), colour)))
    assert picture.shape == (3, 16, 20)
    assert colours(picture)[:, 8, 8].tolist() == list(expected)


def test_a_palette_keeps_its_colours_and_its_transparency(saved):
    image = Image.new("RGB", (20, 20), ORANGE)
    image.paste((0, 0, 255), (10, 0, 20, 20))
    palette = image.quantize(2)
    assert colours(load_picture(saved(palette)))[:, 0, 0].tolist() == list(ORANGE)
    index = palette.getpixel((0, 0))
    picture = colours(load_picture(saved(palette, transparency=index)))
    assert picture[:, 0, 0].tolist() == [255, 255, 255]
    assert picture[:, 0, 15].tolist() == [0, 0, 255]


@pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("F", 127.5), ("I", 127), ("I", 32768), ("F", 32768.0)])
def test_wide_grey_files_are_scaled_to_the_range_that_they_use(saved, mode, value):
    picture = load_picture(saved(Image.new(mode, (20, 20), value), "picture.tiff"))
    assert float(picture.mean()) == pytest.approx(0.5, abs=0.01)
    assert picture.shape == (3, 20, 20)


def highlights(share, low, high, size=(100, 100)):
    """A grey file of levels up to `low` with a few pixels of `high`."""
    levels = torch.linspace(0, low, size[0] * size[1])
    levels[: max(1, int(share * len(levels)))] = high
    return Image.frombytes("F", size, levels.numpy().tobytes())


@pytest.mark.parametrize(
    ("share", "low", "high", "white"),
    [
        (0, 1, 1.01, 1),
        (0, 1, 7.5, 1),
        (0, 0.8, 3000, 1),
        (0.2, 0.9, 1.8, 1),  # overexposed in a fifth of its pixels
        (0.6, 0.9, 4, 1),  # and in most of them
        (0, 255, 280, 255),
        (0, 250, 65535, 255),  # a hot pixel
        (0, 60000, 61000, 65535),
        (0.3, 200, 40000, 65535),
    ],
)
def test_a_few_pixels_above_white_do_not_make_the_picture_dark(saved, share, low, high, white):
    picture, warnings = read_picture(saved(highlights(share, low, high), "picture.tiff"))
    level = float(picture[0].flatten()[-1])
    assert level == pytest.approx(low / white, abs=0.01)
    assert any("picture.tiff" in w and "brighter" in w for w in warnings) == (high > white)


def test_whole_levels_are_no_fractions(saved):
    dark = torch.ones(64, 64)
    dark[:8] = 200.0
    for mode, kind in (("F", torch.float32), ("I", torch.int32)):
        image = Image.frombytes(mode, (64, 64), dark.to(kind).numpy().tobytes())
        assert float(load_picture(saved(image, "picture.tiff"))[0, 0, 0]) == pytest.approx(200 / 255, abs=0.02)


def test_a_black_grey_file_is_black(saved):
    assert float(load_picture(saved(Image.new("F", (20, 20), 0.0), "picture.tiff")).max()) == 0


def test_cmyk_is_read_as_the_colours_that_it_prints(saved):
    picture = load_picture(saved(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "picture.jpg", quality=95))
    assert float(picture[0].mean()) > 0.95
    assert float(picture[1:].mean()) < 0.05


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_says(saved, orientation):
    upright = Image.new("RGB", (40, 24), "white")
    upright.paste((255, 0, 0), (0, 0, 8, 8))  # top left
    back = {  # the inverse of what the viewer has to do
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(back[orientation]) if orientation in back else upright
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    picture = load_picture(saved(stored, exif=exif))
    assert picture.shape == (3, 24, 40)
    assert picture[:, 4, 4].tolist() == [1, 0, 0]
    assert picture[:, 20, 36].tolist() == [1, 1, 1]


def test_a_camera_file_with_a_preview_behind_it_is_a_still(saved):
    small = Image.new("RGB", (20, 20))
    path = saved(Image.new("RGB", (40, 40), ORANGE), "dsc.jpg", format="MPO", save_all=True, append_images=[small])
    assert load_picture(path).shape == (3, 40, 40)


def test_a_picture_with_layers_is_their_sum(tmp_path):
    """Photoshop's file of 20 x 20 pixels with two empty layers; a picture of the sum of all stands at its end."""
    layer = struct.pack(">4iH", 0, 0, 0, 0, 3) + b"".join(struct.pack(">hI", i, 2) for i in range(3))
    layer += b"8BIMnorm" + bytes([255, 0, 0, 0]) + struct.pack(">I", 12) + bytes(8) + b"\1a\0\0"
    layers = struct.pack(">h", 2) + layer * 2 + bytes(2 * 3 * 2)
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 20, 20, 8, 3) + bytes(8)
    section = struct.pack(">II", len(layers) + 4, len(layers)) + layers
    path = tmp_path / "layers.psd"
    path.write_bytes(head + section + bytes(2) + b"".join(bytes([level]) * 400 for level in ORANGE))
    assert getattr(Image.open(path), "is_animated", False)
    assert colours(load_picture(path))[:, 5, 5].tolist() == list(ORANGE)


def test_a_large_grey_file_is_scaled_down_too(saved):
    picture = load_picture(saved(Image.new("I;16", (5000, 2500), 65535)))
    assert picture.shape == (3, 2048, 4096) and float(picture.min()) == 1


def test_a_large_file_is_scaled_down_while_reading(saved):
    picture = load_picture(saved(Image.new("RGB", (4200, 2100), ORANGE), "picture.bmp"))
    assert picture.shape == (3, 2048, 4096)
    assert colours(picture)[:, 1000, 1000].tolist() == list(ORANGE)


@pytest.mark.parametrize("name", ["loop.gif", "loop.webp", "loop.png", "pages.tiff"])
def test_an_animation_is_refused(saved, name):
    frames = [Image.new("RGB", (20, 20), c) for c in ("red", "blue")]
    with pytest.raises(ValueError, match=f"{name} is animated or has several pages; save the one"):
        load_picture(saved(frames[0], name, save_all=True, append_images=frames[1:]))


@pytest.mark.parametrize("size", [(1, 1), (15, 100), (20_000, 20)])
def test_a_size_that_means_nothing_is_refused_with_the_allowed_ones(saved, size):
    with pytest.raises(ValueError, match=rf"picture.png is {size[0]} x {size[1]} pixels; 16 to 16384"):
        load_picture(saved(Image.new("L", size)))
    with pytest.raises(ValueError, match=rf"Picture 2 is {size[0]} x {size[1]} pixels; 16 to 16384"):
        prepare_pictures([torch.zeros(3, 64, 64), torch.zeros(3, size[1], size[0])], 64)


def test_too_many_pixels_are_refused_before_they_are_read(saved, monkeypatch):
    path = saved(Image.new("L", (64, 64)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings(), pytest.raises(ValueError, match=r"picture\.png has too many pixels; scale it down"):
        warnings.simplefilter("ignore")
        load_picture(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "PPM"])
def test_a_broken_file_is_refused_by_name(saved, kind):
    path = saved(Image.effect_noise((64, 64), 90), format=kind)
    whole = path.read_bytes()
    for data in (b"", b"not a picture", whole[: len(whole) // 2], whole[:9] + b"\xff" * 40):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"picture\.png is no picture that can be read.*use PNG, JPEG or WebP\.$"):
            load_picture(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"There is no picture gone\.png; check the path"):
        load_picture(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="no picture that can be read"):
        load_picture(tmp_path)


def test_no_picture_is_refused_with_the_cure():
    with pytest.raises(ValueError, match="no picture to learn from; give 3 to 5"):
        prepare_pictures([], 64)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_pixels_that_are_no_numbers_are_refused(bad):
    picture = torch.zeros(3, 64, 64)
    picture[1, 5, 5] = bad
    with pytest.raises(ValueError, match="Picture 1 has NaN or infinite pixels"):
        prepare_pictures([picture], 64)


@pytest.mark.parametrize("shape", [(1, 64, 64), (4, 64, 64), (64, 64, 3), (1, 3, 64, 64)])
def test_other_layouts_are_refused(shape):
    with pytest.raises(ValueError, match=r"Picture 1 has the shape .* \[3, height, width\]"):
        prepare_pictures([torch.zeros(shape)], 64)


@pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200), (640, 320), (101, 57), (128, 128)])
def test_a_circle_stays_a_circle(width, height):
    image = Image.new("L", (width, height))
    radius = min(width, height) / 4
    middle = (width / 2, height / 2)
    ImageDraw.Draw(image).ellipse(
        (middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius), fill=255
    )
    flat = torch.tensor(list(image.tobytes())).float() / 255
    square = prepare_pictures([flat.reshape(1, height, width).expand(3, -1, -1)], 128)[0, 0]
    across, down = float(square[64].sum()), float(square[:, 64].sum())
    assert across == pytest.approx(64, abs=2.5)  # half the side, as in the picture's shorter one
    assert down == pytest.approx(across, abs=1.5)


def test_pictures_of_many_sizes_become_one_batch_of_numbers_between_0_and_1():
    generator = torch.Generator().manual_seed(0)
    sizes = [(64, 64), (33, 500), (500, 33), (16, 16), (20, 16384)]
    batch = prepare_pictures([torch.rand(3, *size, generator=generator).round() for size in sizes], 128)
    assert batch.shape == (5, 3, 128, 128)
    assert batch.dtype == torch.float32
    assert float(batch.min()) >= 0
    assert float(batch.max()) <= 1


def test_a_picture_that_fits_is_not_touched():
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(prepare_pictures([picture], 64)[0], picture)
    wide = torch.cat([torch.zeros(3, 64, 10), picture, torch.zeros(3, 64, 10)], dim=2)
    assert torch.equal(prepare_pictures([wide], 64)[0], picture)


@pytest.mark.parametrize(("scale", "shift"), [(255, 0), (1, -5)])
def test_pixels_of_another_range_are_refused(scale, shift):
    pictures = [torch.rand(3, 20, 20), torch.rand(3, 20, 20) * scale + shift]
    with pytest.raises(ValueError, match=r"Picture 2 has pixels from .*; 0 \(black\) to 1 \(white\) is meant"):
        prepare_pictures(pictures, 16)


def test_what_a_filter_left_beside_the_range_is_cut_off():
    fitted = prepare_pictures([torch.rand(3, 16, 16) * 1.4 - 0.2], 16)
    assert float(fitted.min()) == 0 and float(fitted.max()) == 1
