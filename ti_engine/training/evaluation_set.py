"""A fixed set of samples whose loss can be compared between steps.

The loss of a training step is mostly the noise level that happened to be drawn; on fixed latents, noise, levels and
captions it becomes a signal of progress (Voronov et al. 2023, arXiv 2302.04841).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.training_set import TrainingSet
from .backend import Backend
from .config import TrainConfig
from .determinism import deterministic_kernels
from .loss import sample_losses
from .samples import Samples, draw_fixed_samples

FEWEST, MOST = 16, 64
"""Samples of the set."""
TRAINED_FOR_EACH = 10
"""Samples that are trained for each one of the set, so that looking costs a small part of a run."""


@dataclass(frozen=True)
class EvaluationSet:
    """Samples that are drawn once."""

    samples: Samples
    placeholder: str

    @torch.no_grad()
    @deterministic_kernels()
    def losses(self, backend: Backend, vectors: Mapping[str, Tensor], at_once: int) -> Tensor:
        """Loss of each sample of the set with these vectors, [N] on the CPU.

        at_once: samples in one pass; as many as training takes, so that looking needs no more memory.
        """
        losses = []
        for start in range(0, len(self.samples.captions), at_once):
            part = self.samples.part(slice(start, start + at_once), backend.device)
            cond = backend.encode(part.captions, {self.placeholder: vectors}, differentiable=False).cond
            losses.append(sample_losses(backend, part, cond).cpu())
        return torch.cat(losses)


def draw_evaluation_set(backend: Backend, dataset: TrainingSet, config: TrainConfig) -> EvaluationSet:
    """The set of a run: from the run's seed but not from its generator, so that looking never changes training."""
    count = min(MOST, max(FEWEST, config.batch_size * config.steps // TRAINED_FOR_EACH))
    samples = draw_fixed_samples(backend.schedule, dataset, config, count, config.seed ^ 0x5EED)
    return EvaluationSet(samples, config.placeholder)
