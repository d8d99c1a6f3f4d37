"""The inpainting channels in training: random masks, and the pictures that they leave visible.

As these models were trained: strokes and boxes over the picture, and now and then a mask over all of it (Suvorov et al.
2022, arXiv 2109.07161; the masks of Stable Diffusion's inpainting models).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MASKS = 8
"""Masks for every picture; WHOLE of them cover all of it."""
WHOLE = 2
_SEED = 0x3A5C


def inpainting_channels(base: Any, pictures: Tensor, latents: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """The channels that an inpainting model reads beside the noisy latents, [MASKS * N, K, h, w]: those of all pictures
    with the first mask, then of all with the second one, ...

    base: the host's model. pictures: [N, 3, H, W] in 0..1. latents: [N, C, h, w], in the model's scale. encode:
    pictures -> latents [N, C, h, w] in the autoencoder's own scale.
    """
    generator = torch.Generator().manual_seed(_SEED)
    rows = []
    for number in range(MASKS):
        masks = random_masks(len(pictures), pictures.shape[2], pictures.shape[3], generator)
        if number < WHOLE:
            masks = torch.ones_like(masks)
        hidden = encode((pictures - 0.5) * (1 - masks) + 0.5)  # grey where they hide it, as the host's own node does
        rows += [
            base.concat_cond(
                noise=latent[None], device=latent.device, concat_latent_image=raw[None], concat_mask=mask[None]
            )
            for latent, raw, mask in zip(latents, hidden, masks, strict=True)
        ]
    return torch.cat(rows).to(latents)


def random_masks(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Masks [count, 1, height, width], 1 where the picture is hidden: 1 to 5 boxes or strokes each."""
    across = (torch.arange(width) + 0.5) / width
    down = ((torch.arange(height) + 0.5) / height)[:, None]
    masks = torch.zeros(count, 1, height, width)
    for mask in masks:
        for _ in range(int(torch.randint(1, 6, (), generator=generator))):
            box, *draws = torch.rand(7, generator=generator).tolist()
            shape = _box(across, down, draws) if box < 0.5 else _stroke(across, down, draws)
            mask[0][shape] = 1
    return masks


def _box(across: Tensor, down: Tensor, draws: list[float]) -> Tensor:
    wide, high = (0.1 + 0.6 * part for part in draws[:2])
    left, top = draws[2] * (1 - wide), draws[3] * (1 - high)
    return (across >= left) & (across < left + wide) & (down >= top) & (down < top + high)


def _stroke(across: Tensor, down: Tensor, draws: list[float]) -> Tensor:
    """A straight brush stroke between two points."""
    x, y, end_x, end_y, size = draws[:5]
    run, rise = end_x - x, end_y - y
    along = (((across - x) * run + (down - y) * rise) / max(run**2 + rise**2, 1e-6)).clamp(0, 1)
    distance = ((across - x - along * run) ** 2 + (down - y - along * rise) ** 2).sqrt()
    return distance < 0.03 + 0.1 * size
