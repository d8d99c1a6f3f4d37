"""The loss that training minimises: the frozen model's own (Gal et al. 2022, eq. 2)."""

from __future__ import annotations

from torch import Tensor

from .backend import Backend
from .samples import Samples


def sample_losses(backend: Backend, samples: Samples, cond: object) -> Tensor:
    """The model's own loss of each sample, [B] (Gal et al. 2022, eq. 2, before its mean over samples).

    cond: of `Backend.encode` for these captions.
    """
    noisy = backend.schedule.noisy_latents(samples.latents, samples.noise, samples.sigma)
    clean = backend.denoise(noisy, samples.sigma, cond, samples.inpainting)
    return backend.schedule.squared_error(clean, samples.latents, samples.sigma)
