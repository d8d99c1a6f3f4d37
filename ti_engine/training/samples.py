"""The samples of one update: everything that is random in it, drawn at once and handed on under its name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.training_set import TrainingSet
from ..method.noise import NoiseSchedule, draw_sigmas, spread_sigmas
from .config import TrainConfig


@dataclass(frozen=True)
class Samples:
    """B samples. latents, noise: [B, C, h, w]; sigma: noise levels [B]; captions: B texts with the placeholder.

    inpainting: [B, K, h, w], the mask and the masked picture for an inpainting model; None for other models.
    """

    latents: Tensor
    noise: Tensor
    sigma: Tensor
    captions: list[str]
    inpainting: Tensor | None = None

    def part(self, rows: slice, device: torch.device) -> Samples:
        """Some of them, on the device that computes with them."""
        latents, noise, sigma = (tensor[rows].to(device) for tensor in (self.latents, self.noise, self.sigma))
        inpainting = None if self.inpainting is None else self.inpainting[rows].to(device)
        return Samples(latents, noise, sigma, self.captions[rows], inpainting)


def draw_samples(
    schedule: NoiseSchedule, dataset: TrainingSet, config: TrainConfig, generator: torch.Generator
) -> Samples:
    """The samples of the next update, drawn for the whole batch: splitting it changes memory and nothing else."""
    batch = dataset.draw_batch(config.batch_size, generator)
    noise = torch.randn(batch.latents.shape, generator=generator)
    sigma = draw_sigmas(schedule, config.batch_size, config.high_noise_bias, generator)
    return Samples(batch.latents, noise, sigma, batch.captions, batch.inpainting)


def draw_fixed_samples(
    schedule: NoiseSchedule, dataset: TrainingSet, config: TrainConfig, count: int, seed: int
) -> Samples:
    """`count` samples that depend on `seed` alone, with every part of the noise levels' distribution once."""
    generator = torch.Generator().manual_seed(seed)
    batch = dataset.draw_batch(count, generator)
    noise = torch.randn(batch.latents.shape, generator=generator)
    sigma = spread_sigmas(schedule, count, config.high_noise_bias)[torch.randperm(count, generator=generator)]
    return Samples(batch.latents, noise, sigma, batch.captions, batch.inpainting)
