"""The host's UNet as training calls it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from comfy.ldm.modules.attention import attention_pytorch
from torch import Tensor


def denoise(patcher: Any, noisy: Tensor, sigma: Tensor, context: Tensor) -> Tensor:
    """Estimate [B, C, h, w] of the clean latents in float32.

    noisy: [B, C, h, w]; sigma: [B]; context: the encoded captions [B, T, D], which gradients reach.
    """
    options = {
        **patcher.model_options.get("transformer_options", {}),
        "optimized_attention_override": _plain_attention,
        "sigmas": sigma,
        "sample_sigmas": sigma,
        "cond_or_uncond": [0],
        "uuids": [uuid.uuid4()],
    }
    return patcher.model.apply_model(noisy, sigma, c_crossattn=context.to(noisy.device), transformer_options=options)


def _plain_attention(function: Callable, *args: Any, **kwargs: Any) -> Tensor:
    # The host's own choice may have no backward (sage, int8) or recompute everything (the default on a CPU).
    return attention_pytorch(*args, **kwargs)
