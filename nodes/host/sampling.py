"""Pictures drawn by the host's own sampler, for previews."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.sample
import torch
from torch import Tensor

from ...ti_engine import TokenEmbedding
from .text.prompt import tokenize


def sample_picture(
    patcher: Any,
    clip: Any,
    vae: Any,
    prompt: str,
    embedding: TokenEmbedding | None,
    seed: int,
    shape: Sequence[int],
    steps: int,
    guidance: float,
) -> Tensor:
    """A picture [3, H, W] in 0..1 on the CPU, from latents of `shape`: [C, h, w], or [C, 1, h, w] for films.

    The host's weights have to be its own again (borrow.Loan.paused).
    """
    words = {} if embedding is None else {embedding.placeholder: embedding.vectors}
    cuda = [patcher.load_device] if patcher.load_device.type == "cuda" else []
    with torch.inference_mode(), torch.random.fork_rng(devices=cuda):  # samplers may seed the global generator
        positive = clip.encode_from_tokens_scheduled(tokenize(clip, prompt, words))
        negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
        noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))
        latent = comfy.sample.sample(
            patcher, noise, steps, guidance, "euler", "normal", positive, negative, torch.zeros_like(noise),
            disable_pbar=True, seed=seed,
        )  # fmt: skip
        picture = vae.decode(latent).flatten(0, -4)[0]  # the first frame
    return picture[..., :3].movedim(-1, 0).float().cpu().clamp(0, 1).clone()
