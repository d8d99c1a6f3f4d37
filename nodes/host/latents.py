"""Pictures as latents of the host's autoencoders."""

from __future__ import annotations

from typing import Any

import torch
from comfy.utils import common_upscale
from torch import Tensor

from .models.family import Family


def encode_latents(vae: Any, family: Family, pictures: Tensor) -> Tensor:
    """The autoencoder's latents [N, C, h, w] ([N, C, 1, h, w] for films) of [N, 3, H, W], not yet scaled."""
    side = family.facts.side
    if side is not None:  # as the host's own node for this family does
        size = pictures.shape[-1] // side * vae.downscale_ratio
        pictures = common_upscale(pictures, size, size, "bicubic", "center")
    # One at a time: some autoencoders take a batch for the frames of a film.
    # In the host's own mode: its way to encode in tiles where memory is short adds in place to what comes out.
    with torch.inference_mode():
        raw = torch.cat([vae.encode(p[None].movedim(1, -1)) for p in pictures]).float().cpu()
    raw = raw.clone()
    return raw.unsqueeze(2) if family.film and raw.ndim == 4 else raw
