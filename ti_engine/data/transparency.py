"""Pictures of any number of channels over white, and what cannot be seen there."""

from __future__ import annotations

from torch import Tensor

_WHITE = 0.97  # of every channel, from which on nobody sees a colour beside white
_MOSTLY = 0.9  # of what a picture shows
_SOME = 0.1  # of the picture that is transparent: more than rounded corners


def over_white(pixels: Tensor) -> Tensor:
    """[C, H, W] in 0..1 as RGB [3, H, W]: C is 1 (grey), 2 (grey, alpha), 3 (RGB) or from 4 on (RGB, alpha, ...)."""
    channels = pixels.shape[0]
    colour = pixels[:1].expand(3, -1, -1) if channels <= 2 else pixels[:3]
    alpha = _alpha(pixels)
    return colour if alpha is None else colour * alpha + (1 - alpha)


def transparency_warnings(pixels: Tensor, name: str) -> list[str]:
    """A sentence where what a picture [C, H, W] shows is white on transparent, so that it vanishes over white."""
    alpha = _alpha(pixels)
    if alpha is None or float((alpha < 0.5).float().mean()) < _SOME:
        return []
    if float(alpha.amax()) < 1 / 255:
        return [f"{name} is transparent all over, so there is nothing to learn from; leave it out."]
    colour = pixels[: 1 if pixels.shape[0] == 2 else 3]
    white = (colour.amin(0, keepdim=True) >= _WHITE).float()
    share = float((alpha * white).sum() / alpha.sum())
    if share < _MOSTLY:
        return []
    return [
        f"{name} is white on transparent: pictures are put on white, where {share:.0%} of what it shows cannot be "
        "seen. Put it on a background of another colour."
    ]


def _alpha(pixels: Tensor) -> Tensor | None:
    channels = pixels.shape[0]
    return pixels[1:2] if channels == 2 else pixels[3:4] if channels >= 4 else None
