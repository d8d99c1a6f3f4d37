"""Noise levels of diffusers' schedulers: those that are trained, and those that a picture passes through."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..method.noise import NoiseSchedule

_PREDICTIONS = ("epsilon", "v_prediction", "sample")


def noise_schedule(scheduler: Any, flow: bool, tokens: int, dtype: torch.dtype) -> NoiseSchedule:
    """The levels of all time steps, ascending.

    Where a diffusion schedule ends in pure noise, its last level is finite. Flow levels are shifted as the scheduler
    shifts them, and where that depends on a picture's size (`use_dynamic_shifting`), for one of `tokens`.
    Raises ValueError for a scheduler of another kind, or whose settings make no sense.
    """
    schedule = _all_levels(scheduler, flow, tokens)
    sigmas = schedule.sigmas
    if not len(sigmas) or not bool(sigmas.isfinite().all()) or sigmas[0] <= 0 or bool((sigmas.diff() < 0).any()):
        raise ValueError(
            "The scheduler's settings give no noise levels that rise from above 0; check its scheduler_config.json."
        )
    return replace(schedule, sigmas=sigmas.to(dtype))


def _all_levels(scheduler: Any, flow: bool, tokens: int) -> NoiseSchedule:
    config = scheduler.config
    if flow:
        if hasattr(scheduler, "alphas_cumprod") or not hasattr(scheduler, "time_shift"):
            raise ValueError(f"{type(scheduler).__name__} is no scheduler of a flow model; FlowMatchEulerDiscrete is.")
        steps = int(config.num_train_timesteps)
        sigmas = _flow_levels(scheduler, tokens, sigmas=np.linspace(1.0, 1 / steps, steps))
        return NoiseSchedule(sigmas.flip(0), "flow")
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(f"{type(scheduler).__name__} has no noise levels by time step, as this family's models need.")
    prediction = config.prediction_type
    if prediction not in _PREDICTIONS:
        raise ValueError(
            f"The scheduler's prediction type {prediction!r} is not known; it must be {', '.join(_PREDICTIONS)}."
        )
    alphas = scheduler.alphas_cumprod.double().clamp(min=2**-24)
    return NoiseSchedule(((1 - alphas) / alphas).sqrt(), prediction)


def diffusion_levels(scheduler: Any, sigmas: Tensor, steps: int) -> Tensor:
    """The levels [steps + 1], descending, that DDIM (Song et al. 2020) passes through with these settings."""
    from diffusers import DDIMScheduler

    ddim: Any = DDIMScheduler.from_config(scheduler.config, clip_sample=False)
    ddim.set_timesteps(steps)
    last = float(ddim.final_alpha_cumprod)
    return torch.cat([sigmas[ddim.timesteps], sigmas.new_tensor([math.sqrt((1 - last) / last)])])


def flow_levels(scheduler: Any, tokens: int, steps: int, even: bool) -> Tensor:
    """The levels [steps + 1], descending, that Euler's method passes through; `even`: they are, before the shift."""
    chosen: dict[str, Any] = dict(sigmas=np.linspace(1.0, 1 / steps, steps)) if even else {}
    levels = _flow_levels(scheduler, tokens, **(chosen or dict(num_inference_steps=steps)))
    return torch.cat([levels, levels.new_zeros(1)])


def _flow_levels(scheduler: Any, tokens: int, **chosen: Any) -> Tensor:
    fresh: Any = type(scheduler).from_config(scheduler.config)  # which keeps what it was asked for last
    config = fresh.config
    if config.use_dynamic_shifting:  # linear in the number of tokens, as Flux's authors do
        rise = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
        chosen["mu"] = config.base_shift + rise * (tokens - config.base_image_seq_len)
    fresh.set_timesteps(**chosen)
    return fresh.sigmas[:-1]
