"""The pictures of a concept as the loop wants them: latents encoded once, batches drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..training.backend import Backend
from ..training.config import TrainConfig
from ..word.placeholder import split_at_placeholder
from .captions import CaptionSource, templates_for
from .pictures import prepare_pictures


@dataclass(frozen=True)
class Batch:
    """latents: [B, C + known_channels, h, w] on the CPU; captions: B texts with the placeholder in them."""

    latents: Tensor
    captions: list[str]


@dataclass(frozen=True)
class TrainingSet:
    """Latents of pictures (mean and standard deviation, each [M, C + known_channels, h, w]) and their captions.

    Row i belongs to picture i % num_pictures: there are more rows than pictures where they are mirrored too, or where
    an inpainting model sees them behind several masks.
    """

    mean: Tensor
    deviation: Tensor
    captions: CaptionSource
    num_pictures: int

    def draw_batch(self, size: int, generator: torch.Generator) -> Batch:
        """`size` samples: pictures at random, a latent from each one's distribution, a caption anew."""
        index = _balanced_choice(len(self.mean), size, generator)
        noise = torch.randn(index.shape + self.mean.shape[1:], generator=generator)
        captions = [self.captions.draw(int(i) % self.num_pictures, generator) for i in index]
        return Batch(self.mean[index] + self.deviation[index] * noise, captions)


def encode_training_set(
    backend: Backend, pictures: Sequence[Tensor], config: TrainConfig, captions: Sequence[str | None] = ()
) -> TrainingSet:
    """Crop, scale and encode `pictures` ([3, H, W] in 0..1, any sizes), once for all steps.

    captions: one for each picture, or none at all; None where the templates shall serve.
    Raises ValueError for pictures or captions that cannot be learned from.
    """
    if captions and len(captions) != len(pictures):
        raise ValueError(f"There are {len(captions)} captions for {len(pictures)} pictures; give one each or none.")
    templates = templates_for(config.what, config.templates)
    if config.what != "custom" and any(len(split_at_placeholder(text, config.placeholder)) > 1 for text in templates):
        raise ValueError(
            f"The training captions hold the word {config.placeholder!r} themselves, so it cannot be the new word; "
            "choose a placeholder such as S*."
        )
    source = CaptionSource(config.placeholder, templates, captions)
    batch = prepare_pictures(pictures, config.resolution or backend.resolution)
    if config.flip:
        batch = torch.cat([batch, batch.flip(-1)])
    mean, deviation = backend.encode_pictures(batch)
    if not bool(mean.isfinite().all() and deviation.isfinite().all()):
        raise ValueError(
            "The autoencoder (VAE) made NaN or infinity of the pictures: its precision does not hold their numbers. "
            "Load it in float32 or bfloat16."
        )
    return TrainingSet(mean, deviation, source, len(pictures))


def _balanced_choice(num: int, size: int, generator: torch.Generator) -> Tensor:
    """`size` of `num` indices in random order, none more than one time oftener than another."""
    rounds = -(-size // num)
    return torch.cat([torch.randperm(num, generator=generator) for _ in range(rounds)])[:size]
