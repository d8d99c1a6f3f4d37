"""The noise levels of a model: which are trained, and what noisy latents, targets and losses are at each.

Noise levels are sigmas in the notation of Karras et al. 2022 (arXiv 2206.00364): the standard deviation of the noise
over that of the data, so SD1's 1,000 time steps are the sigmas 0.03 to 14.6.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .prediction import RULES, Prediction

_SMALLEST_SIGMA = 1e-4  # zero-terminal schedules and flow reach 0, where an error of the answer has no value


@dataclass(frozen=True)
class NoiseSchedule:
    """The noise levels of a model and what the model was trained to predict.

    sigmas: [T], ascending. For `flow` they are the share of noise, 0 to 1, else standard deviations.
    sigma_data: standard deviation of the data in the v target.
    In the methods latents, noise and answers are [B, C, h, w] or [B, C, T, h, w], sigma is [B].
    """

    sigmas: Tensor
    prediction: Prediction
    sigma_data: float = 1.0

    def noisy_latents(self, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """What the model sees at noise levels sigma."""
        return RULES[self.prediction].noisy(latents, noise, append_dims(sigma, latents.ndim))

    def target(self, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """What the model was trained to answer."""
        return RULES[self.prediction].target(latents, noise, append_dims(sigma, latents.ndim), self.sigma_data)

    def clean_estimate(self, answer: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The clean latents that the model's answer to `noisy` stands for."""
        return RULES[self.prediction].clean(answer, noisy, append_dims(sigma, noisy.ndim), self.sigma_data)

    def error_weight(self, sigma: Tensor) -> Tensor:
        """Factor [B] that turns an error of the clean latents into the error of the model's own target."""
        return RULES[self.prediction].error(sigma.clamp(min=_SMALLEST_SIGMA), self.sigma_data)

    def squared_error(self, clean: Tensor, latents: Tensor, sigma: Tensor) -> Tensor:
        """Mean squared error of the model's own target for each sample, [B], from its estimate of the clean latents.

        Gal et al. 2022, eq. 2, before its mean over samples.
        """
        error = (clean - latents) * append_dims(self.error_weight(sigma), latents.ndim)
        return error.square().flatten(1).mean(1)


def append_dims(values: Tensor, ndim: int) -> Tensor:
    """`values` [B] as [B, 1, 1, ...] with `ndim` dimensions."""
    return values.reshape(-1, *[1] * (ndim - 1))


def draw_sigmas(schedule: NoiseSchedule, count: int, bias: float, generator: torch.Generator) -> Tensor:
    """`count` noise levels [count], time step t drawn with density proportional to t ** bias.

    The draws are stratified over the batch (low-discrepancy sampling, Kingma et al. 2021, arXiv 2107.00630): each of
    `count` equal parts of the distribution is hit once, so a batch never holds low noise alone.
    """
    part = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return _sigma_at(schedule, part, bias)


def spread_sigmas(schedule: NoiseSchedule, count: int, bias: float) -> Tensor:
    """The `count` levels [count] in the middle of the parts that `draw_sigmas` draws from: always the same."""
    return _sigma_at(schedule, (torch.arange(count) + 0.5) / count, bias)


def _sigma_at(schedule: NoiseSchedule, quantile: Tensor, bias: float) -> Tensor:
    steps = len(schedule.sigmas)
    index = (quantile ** (1 / (1 + bias)) * steps).long().clamp(max=steps - 1)
    return schedule.sigmas[index]
