"""The host's denoiser as training calls it: the same objects make its inputs as when the host samples."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.sampler_helpers import convert_cond
from comfy.samplers import cond_cat, cond_equal_size, encode_model_conds
from torch import Tensor

from ...ti_engine.memory.overwritten import overwriting_allowed
from .models.family import Family
from .text.caption_encoding import Conditioning, Entry


def denoise(
    patcher: Any, noisy: Tensor, sigma: Tensor, cond: Conditioning, family: Family, inpainting: Tensor | None = None
) -> Tensor:
    """Estimate [B, C, h, w] of the clean latents in float32. noisy: [B, C, h, w]; sigma: [B]; inpainting: [B, K, h, w].

    Latents of films have T = 1 before h. Samples whose captions differ in length in a way that the model cannot take
    side by side are computed apart.
    """
    noisy, sigma = noisy.to(patcher.load_device), sigma.to(patcher.load_device)
    inpainting = None if inpainting is None else inpainting.to(noisy)
    guidance = {} if family.facts.training_guidance is None else {"guidance": family.facts.training_guidance}
    conds = [_model_conds(patcher, {**guidance, **entry}, noisy[:1]) for entry in cond.distinct]
    parts, places = [], []
    for rows in _side_by_side([conds[i] for i in cond.index]):
        inputs = cond_cat([conds[cond.index[r]] for r in rows])
        if inpainting is not None:
            inputs["c_concat"] = inpainting[rows]
        parts.append(_apply(patcher, noisy[rows], sigma[rows], inputs, family.adds_in_place))
        places += rows
    together = torch.cat(parts)
    return together if places == sorted(places) else together[torch.tensor(places).argsort()]


def _model_conds(patcher: Any, entry: Entry, noise: Tensor) -> dict[str, Any]:
    """The host's COND objects for one caption and one sample."""
    options = {k: v for k, v in entry.items() if k != "cond"}
    (encoded,) = encode_model_conds(
        patcher.model.extra_conds,
        convert_cond([[entry["cond"], options]]),
        noise,
        noise.device,
        "positive",
        latent_image=noise,
        denoise_mask=None,
        seed=0,
    )
    return {name: cond.process_cond(batch_size=1, area=None) for name, cond in encoded["model_conds"].items()}


def _side_by_side(conds: Sequence[Mapping[str, Any]]) -> Iterator[list[int]]:
    """The indices of `conds` in groups that the model takes in one batch."""
    left = list(range(len(conds)))
    while left:
        group = [i for i in left if cond_equal_size(conds[left[0]], conds[i])]
        yield group
        left = [i for i in left if i not in group]


def _apply(patcher: Any, noisy: Tensor, sigma: Tensor, inputs: Mapping[str, Any], adds_in_place: bool) -> Tensor:
    options = {
        **patcher.model_options.get("transformer_options", {}),
        "optimized_attention_override": _torch_attention,
        "sigmas": sigma,
        "sample_sigmas": sigma,
        "cond_or_uncond": [0],
        "uuids": [uuid.uuid4()],
    }

    try:
        with overwriting_allowed() if adds_in_place and torch.is_grad_enabled() else nullcontext():
            return patcher.model.apply_model(noisy, sigma, transformer_options=options, **inputs)
    except RuntimeError as error:
        if "shapes cannot be multiplied" not in str(error):
            raise
        raise ValueError(
            f"MODEL and CLIP do not belong together: {type(patcher.model.model_config).__name__} cannot read text "
            f"of this CLIP's width ({error}). Connect both as the model's own instructions say."
        ) from error


def _torch_attention(function: Callable, *args: Any, **kwargs: Any) -> Tensor:
    # The host's own choice may have no backward (sage, int8) or recompute everything (the default on a CPU).
    return attention_pytorch(*args, **kwargs)
