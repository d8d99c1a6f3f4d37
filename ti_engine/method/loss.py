"""What is minimised: the frozen model's own training loss, per sample, with all randomness passed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .noise import NoiseSchedule, append_dims

if TYPE_CHECKING:
    from ..training.backend import Backend

_SMALLEST_SIGMA = 1e-4  # zero-terminal schedules and flow reach 0, where the weights below have no value


def loss_weight(schedule: NoiseSchedule, sigma: Tensor) -> Tensor:
    """Factor [B] that turns the squared error of the clean latents into that of the model's own target.

    With noisy = latents + s noise, an error d of the clean latents is an error d / s of the noise (epsilon),
    d / s of the velocity noise - latents (flow; d (1 + s) / s where flow is told in standard deviations), and
    d sqrt(s^2 + c^2) / (s c) of v (Salimans & Ho 2022, arXiv 2202.00512, in the notation of Karras et al. 2022), c
    being the data's standard deviation.
    """
    s = sigma.clamp(min=_SMALLEST_SIGMA)
    if schedule.prediction == "sample":
        return s.new_ones(s.shape)
    if schedule.prediction == "scaled_flow":
        return ((1 + s) / s) ** 2
    if schedule.prediction == "v_prediction":
        c = schedule.sigma_data
        return (s**2 + c**2) / (s * c) ** 2
    return 1 / s**2


def diffusion_loss(backend: Backend, latents: Tensor, noise: Tensor, sigma: Tensor, cond: Any) -> Tensor:
    """Mean squared error of the model's prediction for each sample, [B] (Gal et al. 2022, eq. 2, before its mean).

    latents, noise: [B, C + known_channels, H, W] (films [B, C, T, H, W]), of which the last `backend.known_channels`
    are what the model is told of the picture and stay without noise; sigma: [B]; cond: what the backend's `encode`
    returned for B captions.
    """
    known = latents[:, latents.shape[1] - backend.known_channels :]
    latents, noise = (t[:, : t.shape[1] - backend.known_channels] for t in (latents, noise))
    noisy = backend.schedule.add_noise(latents, noise, sigma)
    denoised = backend.denoise(torch.cat([noisy, known.to(noisy.dtype)], 1), sigma, cond)
    error = (denoised - latents) * append_dims(loss_weight(backend.schedule, sigma).sqrt(), latents.ndim)
    return error.square().flatten(1).mean(1)
