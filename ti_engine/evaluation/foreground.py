"""Pictures without their background, so that a likeness is that of the thing."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

GREY = 0.5
"""What the background becomes: the same neutral grey (sRGB) for every network, near to the mean of each one's
pictures. A picture's own mean would still tell of its background."""


def foreground(picture: Tensor, mask: Tensor | None) -> Tensor:
    """`picture` [3, H, W] in 0..1 where `mask` [h, w] is 1, grey where it is 0, mixed between; as it is without a mask.

    The mask is scaled to the picture. Raises ValueError for one of another shape or outside of 0..1, and for one that
    leaves nothing of the picture.
    """
    if mask is None:
        return picture
    if mask.ndim != 2:
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
    return picture * share + GREY * (1 - share)
