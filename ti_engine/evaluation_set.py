"""A fixed set of samples whose loss can be compared between steps.

The loss of a training step is mostly the noise level that happened to be drawn; on fixed latents, noise, levels and
captions it becomes a signal of progress (Voronov et al. 2023, arXiv 2302.04841).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .backend import Backend
from .config import TrainConfig
from .dataset import TrainingSet
from .loss import diffusion_loss
from .noise import spread_sigmas

SAMPLES = 16


@dataclass(frozen=True)
class EvaluationSet:
    """SAMPLES latents with their noise, noise levels [SAMPLES] and captions, drawn once."""

    latents: Tensor
    noise: Tensor
    sigma: Tensor
    captions: list[str]
    placeholder: str
    part_size: int
    """Samples in one pass: as many as training takes, so that looking needs no more memory."""

    @torch.no_grad()
    def loss(self, backend: Backend, vectors: Mapping[str, Tensor]) -> float:
        """Mean loss over the set with these vectors."""
        total = 0.0
        for start in range(0, len(self.captions), self.part_size):
            part = slice(start, start + self.part_size)
            cond: Any = backend.encode(self.captions[part], self.placeholder, vectors, differentiable=False).cond
            losses = diffusion_loss(
                backend,
                self.latents[part].to(backend.device),
                self.noise[part].to(backend.device),
                self.sigma[part].to(backend.device),
                cond,
            )
            total += float(losses.sum())
        return total / len(self.captions)


def draw_evaluation_set(backend: Backend, dataset: TrainingSet, config: TrainConfig) -> EvaluationSet:
    """The set of a run: from the run's seed but not from its generator, so that looking never changes training."""
    generator = torch.Generator().manual_seed(config.seed ^ 0x5EED)
    batch = dataset.draw_batch(SAMPLES, generator)
    noise = torch.randn(batch.latents.shape, generator=generator)
    sigma = spread_sigmas(backend.schedule, SAMPLES, config.high_noise_bias)
    sigma = sigma[torch.randperm(SAMPLES, generator=generator)]
    part_size = config.batch_size // config.gradient_accumulation_steps
    return EvaluationSet(batch.latents, noise, sigma, batch.captions, config.placeholder, part_size)
