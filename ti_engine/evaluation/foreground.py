"""Pictures without their background, so that a likeness is that of the thing."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

_SHAPES = 0.02  # by which the shapes of a picture and its mask may differ: a pixel of rounding

GREY = 0.5
"""What the background becomes: the same neutral grey (sRGB) for every network, near to the mean of each one's
pictures. A picture's own mean would still tell of its background."""


def foreground(picture: Tensor, mask: Tensor | None) -> Tensor:
    """`picture` [3, H, W] in 0..1 where `mask` [h, w] is 1, grey where it is 0, mixed between; as it is without a mask.

    The mask is scaled to the picture. Raises ValueError for one that is no [h, w], outside of 0..1 or of other
    proportions than the picture (unless it is white everywhere, and so keeps all), and for one that leaves nothing of
    the picture.
    """
    if mask is None:
        return picture
    if mask.ndim != 2 or not mask.numel():
        raise ValueError(f"A mask has the shape {list(mask.shape)}; it must be [height, width].")
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise ValueError("A mask has values outside of 0 (background) to 1 (the thing).")
    size = (picture.shape[-2], picture.shape[-1])
    share = mask.float()
    if mask.shape != size:
        share = F.interpolate(share[None, None], size=size, mode="bilinear", antialias=True)[0, 0]
    share = share.clamp(0, 1)
    if float(share.amax()) < 0.5:
        raise ValueError("A mask covers nothing of its picture; white is what is kept.")
    ratio = mask.shape[1] * size[0] / (mask.shape[0] * size[1])
    if abs(ratio - 1) > _SHAPES and float(mask.amin()) < 1:
        raise ValueError(
            f"A mask is {mask.shape[1]} x {mask.shape[0]} pixels, its picture {size[1]} x {size[0]}; give it the same "
            "shape."
        )
    return picture * share + GREY * (1 - share)
