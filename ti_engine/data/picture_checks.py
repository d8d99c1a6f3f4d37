"""What is probably wrong with training pictures: checks that look at the pixels and change nothing."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from .pictures import fit_picture

_LONG = 2.0  # sides; below it (3:2, 16:9) pictures are usual and their subject is in the middle
_UPSCALED = 2.0  # times
_CONTRAST_SIDE = 32  # px of the copy in which contrast is looked for
_LIKENESS_SIDE = 16  # px of the copy that is compared with others
_NO_CONTRAST = 0.05  # of black to white; less is noise, or a picture that shows nothing
_SAME = 0.06  # of black to white, at any place: JPEG and scaling differ by up to .04, a shift of 1 % by .14
_BOX = 11  # px
_BLURRED = 0.65  # of the gradient's energy: sharp photos and drawings keep .02 to .2, blurred by 4 px .6 to .8


def picture_warnings(pictures: Sequence[Tensor], names: Sequence[str], resolution: int) -> list[str]:
    """A sentence for everything that makes one of `pictures` ([3, H, W] in 0..1) of little use, with its name.

    resolution: of the square in pixels that is learned from. Raises ValueError for a picture that nothing can be
    learned from, as `prepare_pictures` does.
    """
    warnings: list[str] = []
    copies: dict[str, Tensor] = {}
    same: dict[str, list[str]] = {}
    for picture, name in zip(pictures, names, strict=True):
        square = fit_picture(picture, resolution, name)
        small = _small(square, _CONTRAST_SIDE)
        warnings += _shape_warnings(picture.shape[1], picture.shape[2], name, resolution)
        if float((small.amax((1, 2)) - small.amin((1, 2))).amax()) < _NO_CONTRAST:
            warnings.append(
                f"{name} is {_tone(small)} all over, so there is nothing to learn from; leave it out. (What is white "
                "on transparent is lost, because pictures are put on white.)"
            )
            continue
        copy = _small(square, _LIKENESS_SIDE)
        twin = next((other for other, seen in copies.items() if float((seen - copy).abs().amax()) < _SAME), None)
        if twin is None:
            copies[name] = copy
        else:
            same.setdefault(twin, []).append(name)
        scaled = resolution / min(picture.shape[1:])
        if scaled < _UPSCALED and blur(square) > _BLURRED:
            warnings.append(f"{name} is blurred, so the word will draw blurred pictures, too; use a sharp one.")
    for name, twins in same.items():
        warnings.append(
            f"{' and '.join(twins)} {'shows' if len(twins) == 1 else 'show'} the same as {name}, which so counts "
            f"{len(twins) + 1} times; different pictures teach more."
        )
    return warnings


def blur(picture: Tensor) -> float:
    """How blurred a picture [3, H, W] is: 0 (sharp) to 1. Flat areas do not count, only how steep its edges are.

    Blurring a sharp picture takes most of its gradient's energy away, and of a blurred one little: the share that is
    left after a box filter, along the axis where it is larger. After Crete et al. 2007, "The blur effect", with the
    square of the differences, so that soft shading beside sharp edges does not count as blur.
    """
    grey = picture.mean(0)[None, None]
    shares = []
    for dim, size in ((2, (_BOX, 1)), (3, (1, _BOX))):
        padding = (size[0] // 2, size[1] // 2)
        box = F.avg_pool2d(grey, size, 1, padding, count_include_pad=False)
        energy = grey.diff(dim=dim).square().sum()
        shares.append(float(box.diff(dim=dim).square().sum() / energy) if float(energy) else 0.0)
    return max(shares)


def _small(picture: Tensor, side: int) -> Tensor:
    return F.interpolate(picture[None], size=(side, side), mode="area")[0]


def _shape_warnings(height: int, width: int, name: str, resolution: int) -> list[str]:
    short, long = sorted((height, width))
    warnings = []
    if long / short >= _LONG:
        sides = "left and right" if width > height else "top and bottom"
        warnings.append(
            f"{name} is {width} x {height} pixels, and a square from its middle is learned from: "
            f"{1 - short / long:.0%} of it ({sides}) is cut away. Crop it to the subject."
        )
    if resolution / short >= _UPSCALED:
        warnings.append(
            f"{name} is {width} x {height} pixels and is scaled up {resolution / short:.1f} times, to {resolution}: it "
            "has no detail to learn from. Use a larger picture, or lower resolution."
        )
    return warnings


def _tone(small: Tensor) -> str:
    mean = small.mean((1, 2))
    if float(mean.amin()) > 1 - _NO_CONTRAST:
        return "white"
    return "black" if float(mean.amax()) < _NO_CONTRAST else "one colour"
