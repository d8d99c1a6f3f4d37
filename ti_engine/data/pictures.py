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

MAX_SIDE = 16384  # px; beyond it a picture is more likely a mistake or a bomb than a photo
MIN_SIDE = 16
_OVERSHOOT = 0.5  # that a resampling filter may leave beside 0 and 1; it is cut off
_ENOUGH = 2048  # px of the shorter side; larger files are scaled down at once, for a phone's picture takes 0.3 GB


def load_picture(path: str | Path) -> Tensor:
    """The picture in a file as [3, H, W] in 0..1: turned as its EXIF says, transparency over white, 16 bit scaled.

    Its shorter side has 2048 pixels at most, the largest resolution that is trained. Raises ValueError with the file's
    name for what is no still picture of a sensible size.
    """
    name = Path(path).name
    with _reading(name):
        image = Image.open(path)
        animated = getattr(image, "is_animated", False) and image.format != "MPO"  # cameras: a JPEG and its preview
    with image:
        _check_size(*image.size, name)
        if animated:
            raise ValueError(f"{name} is animated or has several pages; save the one that you want as a picture.")
        with _reading(name):
            return _to_tensor(ImageOps.exif_transpose(image))


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
    return torch.stack([_fit(p, resolution, number) for number, p in enumerate(pictures, 1)])


def _fit(picture: Tensor, resolution: int, number: int) -> Tensor:
    if picture.ndim != 3 or picture.shape[0] != 3:
        raise ValueError(f"Picture {number} has the shape {list(picture.shape)}; it must be [3, height, width] in RGB.")
    _check_size(picture.shape[-1], picture.shape[-2], f"Picture {number}")
    if not bool(picture.isfinite().all()):
        raise ValueError(f"Picture {number} has NaN or infinite pixels; check the node or file that it comes from.")
    low, high = (float(value) for value in picture.float().aminmax())
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ValueError(
            f"Picture {number} has pixels from {low:.3g} to {high:.3g}; 0 (black) to 1 (white) is meant. Scale them in "
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


def _to_tensor(image: Image.Image) -> Tensor:
    if image.mode.startswith("I") or image.mode == "F":  # 16 or 32 bit grey, which convert() would cut off at 255
        white = 65535 if image.mode.startswith("I;16") else 0
        grey = _shrunk(image.convert("F"))
        flat = torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.float32)
        # Files of the other modes do not say which range they use.
        white = white or next((level for level in (1, 255) if float(flat.max()) <= level), 65535)
        return (flat / white).clamp(0, 1).reshape(1, grey.height, grey.width).repeat(3, 1, 1)
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    rgb = _shrunk(image.convert("RGB"))
    flat = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8)
    return flat.reshape(rgb.height, rgb.width, 3).permute(2, 0, 1).float() / 255


def _shrunk(image: Image.Image) -> Image.Image:
    """With a shorter side of _ENOUGH pixels, where it has more."""
    shrink = min(image.size) / _ENOUGH
    if shrink <= 1:
        return image
    return image.resize((round(image.width / shrink), round(image.height / shrink)), Image.Resampling.BICUBIC)
