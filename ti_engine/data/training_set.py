"""The pictures of a concept as latents, with their captions, and the batches drawn from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .captions import CaptionSource


@dataclass(frozen=True)
class Batch:
    """B latents [B, C, h, w] and captions. inpainting: [B, K, h, w], the channels of an inpainting model, or None."""

    latents: Tensor
    captions: list[str]
    inpainting: Tensor | None = None


@dataclass(frozen=True)
class TrainingSet:
    """Latents of pictures (mean and standard deviation, each [M, C, h, w], on the CPU) and their captions.

    Row i belongs to picture i % num_pictures: there are more rows than pictures where they are mirrored too, or where
    an inpainting model sees them behind several masks. inpainting: [M, K, h, w], the channels of such a model.
    """

    mean: Tensor
    deviation: Tensor
    captions: CaptionSource
    num_pictures: int
    inpainting: Tensor | None = None

    def draw_batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` samples: pictures at random, a latent from each one's distribution, a caption anew."""
        index = _balanced_choice(len(self.mean), size, generator)
        noise = torch.randn(index.shape + self.mean.shape[1:], generator=generator)
        captions = [self.captions.draw(int(i) % self.num_pictures, generator) for i in index]
        inpainting = None if self.inpainting is None else self.inpainting[index]
        return Batch(self.mean[index] + self.deviation[index] * noise, captions, inpainting)


def _balanced_choice(num: int, size: int, generator: torch.Generator) -> Tensor:
    """`size` of `num` indices in random order, none more than one time oftener than another."""
    rounds = -(-size // num)
    return torch.cat([torch.randperm(num, generator=generator) for _ in range(rounds)])[:size]
