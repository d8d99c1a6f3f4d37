"""Pictures of any size and mode to square RGB tensors, without squashing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from .colour import to_srgb
from .transparency import transparency_warnings

MAX_SIDE = 16384  # px; beyond it a picture is more likely a mistake or a bomb than a photo
MIN_SIDE = 16
_OVERSHOOT = 0.5  # that a resampling filter may leave beside 0 and 1; it is cut off
_STILLS = ("MPO", "PSD")  # whose further frames are a preview, or the layers of the picture
_SAMPLE = 256  # px of the copy in which transparency is looked at
_DARK = 16.0  # of 255; a picture without a brighter pixel counts in fractions, of which some are above white
_FEW = 0.001  # of all pixels that may be brighter than white
_ENOUGH = 2048  # px of the shorter side; larger files are scaled down at once, for a phone's picture takes 0.3 GB


def load_picture(path: str | Path) -> Tensor:
    """`read_picture` without its warnings."""
    return read_picture(path)[0]


def read_picture(path: str | Path, name: str = "") -> tuple[Tensor, list[str]]:
    """The picture in a file as [3, H, W] in 0..1, and a warning for everything that was lost on the way.

    Turned as its EXIF says, in sRGB as its colour profile says, transparency over white, 16 bit scaled. Its shorter
    side has 2048 pixels at most, the largest resolution that is trained. Raises ValueError with its name (or `name`)
    for what is no still picture of a sensible size.
    """
    name = name or Path(path).name
    with _reading(name):
        image = Image.open(path)
        animated = getattr(image, "is_animated", False) and image.format not in _STILLS
    with image:
        _check_size(*image.size, name)
        if animated:
            raise ValueError(f"{name} is animated or has several pages; save the one that you want as a picture.")
        with _reading(name):
            return _to_tensor(ImageOps.exif_transpose(image), name)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below Pillow's error
            yield
    except FileNotFoundError as error:
        raise ValueError(f"There is no picture {name}; check the path.") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} has too many pixels; scale it down, {_ENOUGH} a side are enough.") from error
    except Exception as error:  # Pillow's readers raise nearly every kind for a broken file
        raise ValueError(f"{name} is no picture that can be read ({error}); use PNG, JPEG or WebP.") from error


def prepare_pictures(pictures: Sequence[Tensor], resolution: int) -> Tensor:
    """Pictures [3, H, W] in 0..1 of any sizes as one batch [N, 3, resolution, resolution]: centre cropped, scaled.

    Raises ValueError for no picture at all, a picture too small or too large to mean anything, NaN or infinity, and
    pixels far outside of 0..1.
    """
    if not pictures:
        raise ValueError("There is no picture to learn from; give 3 to 5 pictures of the same thing.")
    return torch.stack([fit_picture(p, resolution, f"Picture {n}") for n, p in enumerate(pictures, 1)])


def fit_picture(picture: Tensor, resolution: int, name: str) -> Tensor:
    """One picture as `prepare_pictures` fits it: [3, resolution, resolution]. name: for its errors."""
    if picture.ndim != 3 or picture.shape[0] != 3:
        raise ValueError(f"{name} has the shape {list(picture.shape)}; it must be [3, height, width] in RGB.")
    _check_size(picture.shape[-1], picture.shape[-2], name)
    if not bool(picture.isfinite().all()):
        raise ValueError(f"{name} has NaN or infinite pixels; check the node or file that it comes from.")
    low, high = (float(value) for value in picture.float().aminmax())
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ValueError(
            f"{name} has pixels from {low:.3g} to {high:.3g}; 0 (black) to 1 (white) is meant. Scale them in "
            "the node that they come from."
        )
    height, width = picture.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[:, top : top + side, left : left + side].float()
    if side != resolution:
        square = F.interpolate(square[None], size=(resolution, resolution), mode="bicubic", antialias=True)[0]
    return square.clamp(0, 1)


def _check_size(width: int, height: int, name: str) -> None:
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_SIDE:
        raise ValueError(
            f"{name} is {width} x {height} pixels; {MIN_SIDE} to {MAX_SIDE} a side can be learned from. Scale or crop "
            "it, or leave it out."
        )


def _to_tensor(image: Image.Image, name: str) -> tuple[Tensor, list[str]]:
    warnings: list[str] = []
    if image.mode.startswith("I") or image.mode == "F":  # 16 or 32 bit grey, which convert() would cut off at 255
        grey = _shrunk(image.convert("F"))
        levels = torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.float32)
        white = 65535.0 if image.mode.startswith("I;16") else white_level(levels)
        if above := int((levels > white).sum()):
            warnings.append(f"{name} has {above:,} pixels brighter than white ({white:g}); they are cut off at it.")
        scaled = (levels / white).clamp(0, 1).reshape(1, grey.height, grey.width).repeat(3, 1, 1)
        if "icc_profile" not in image.info:
            return scaled, warnings
        srgb, lost = to_srgb(_eight_bit(scaled, image.info["icc_profile"]), name)
        return _levels(srgb), warnings + lost
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        sample = image.resize(_at_most(image.size, _SAMPLE), Image.Resampling.NEAREST)
        warnings += transparency_warnings(_levels(sample), name)
    elif image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    image, lost = to_srgb(image, name)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return _levels(_shrunk(image.convert("RGB"))), warnings + lost


def white_level(levels: Tensor) -> float:
    """The number that means white in a grey picture of numbers, whose file does not say it: 1, 255 or 65535.

    A few pixels above white (highlights, hot pixels, what a filter left) do not change it. Fractions between 0 and 1
    are what tells 1 from the others, because these count whole levels.
    """
    levels = levels[levels.isfinite() & (levels > 0)]
    if not len(levels):
        return 1.0
    fractions = bool((levels < 1).any())
    if float(levels.max()) <= 1:
        return 1.0
    if fractions and (_share_above(1, levels) < 0.5 or _share_above(_DARK, levels) < _FEW):
        return 1.0
    return next((white for white in (255.0, 65535.0) if _share_above(white, levels) < _FEW), float(levels.max()))


def _share_above(level: float, levels: Tensor) -> float:
    return float((levels > level).float().mean())


def _eight_bit(picture: Tensor, profile: bytes) -> Image.Image:
    """A grey picture [3, H, W] in 0..1 as an image with a colour profile."""
    image = Image.fromarray((picture[0].nan_to_num() * 255).round().byte().numpy())
    image.info["icc_profile"] = profile
    return image


def _levels(image: Image.Image) -> Tensor:
    """An 8 bit image of C channels as [C, H, W] in 0..1."""
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.reshape(image.height, image.width, -1).permute(2, 0, 1).float() / 255


def _at_most(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = min(1, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _shrunk(image: Image.Image) -> Image.Image:
    """With a shorter side of _ENOUGH pixels, where it has more."""
    shrink = min(image.size) / _ENOUGH
    if shrink <= 1:
        return image
    return image.resize((round(image.width / shrink), round(image.height / shrink)), Image.Resampling.BICUBIC)
