"""Which noise levels are trained, and what a noisy latent is.

Noise levels are sigmas in the notation of Karras et al. 2022 (arXiv 2206.00364): the standard deviation of the noise
over that of the data, so SD1's 1,000 time steps are the sigmas 0.03 to 14.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "sample", "flow", "scaled_flow"]
"""What a model was trained to tell. scaled_flow: as flow, with noisy latents divided by the share of the picture in
them, so that their noise levels are standard deviations (Cosmos-Predict2)."""


@dataclass(frozen=True)
class NoiseSchedule:
    """The noise levels of a model and what the model was trained to predict.

    sigmas: [T], ascending. For `flow` they are the fraction of noise, 0 to 1, else standard deviations.
    sigma_data: standard deviation of the data in the v target.
    """

    sigmas: Tensor
    prediction: Prediction
    sigma_data: float = 1.0

    def add_noise(self, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Noisy latents: (1 - sigma) latents + sigma noise for flow, else latents + sigma noise. sigma: [B]."""
        level = append_dims(sigma, latents.ndim)
        if self.prediction == "flow":
            return (1 - level) * latents + level * noise
        return latents + level * noise


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
