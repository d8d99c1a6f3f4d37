"""The host's denoiser as training calls it: the same objects make its inputs as when the host samples."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.sampler_helpers import convert_cond
from comfy.samplers import encode_model_conds
from torch import Tensor

from ...ti_engine.overwriting import overwriting_allowed
from .caption_encoding import Conditioning, Entry
from .family import Family


def denoise(patcher: Any, noisy: Tensor, sigma: Tensor, cond: Conditioning, family: Family, runs_twice: bool) -> Tensor:
    """Estimate [B, C, h, w] of the clean latents in float32. noisy: [B, C + known channels, h, w]; sigma: [B].

    runs_twice: as a whole, where a gradient is asked for, because its blocks add in place. Latents of films have T = 1
    before h. Samples whose captions differ in length in a way that the model cannot take side by side are computed
    apart.
    """
    noisy, sigma = noisy.to(patcher.load_device), sigma.to(patcher.load_device)
    noisy, known = noisy.split([family.latent_channels, family.known_channels], dim=1)
    guidance = {} if family.facts.told_guidance is None else {"guidance": family.facts.told_guidance}
    conds = [_model_conds(patcher, {**guidance, **entry}, noisy[:1]) for entry in cond.distinct]
    parts, places = [], []
    for rows in _side_by_side([conds[i] for i in cond.index]):
        inputs = {
            name: first.concat([conds[cond.index[r]][name] for r in rows[1:]])
            for name, first in conds[cond.index[rows[0]]].items()
        }
        if family.known_channels:
            inputs["c_concat"] = known[rows]
        parts.append(_apply(patcher, noisy[rows], sigma[rows], inputs, runs_twice))
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
        first = conds[left[0]]
        group = [i for i in left if all(first[name].can_concat(conds[i][name]) for name in first)]
        yield group
        left = [i for i in left if i not in group]


def _apply(patcher: Any, noisy: Tensor, sigma: Tensor, inputs: Mapping[str, Any], runs_twice: bool) -> Tensor:
    options = {
        **patcher.model_options.get("transformer_options", {}),
        "optimized_attention_override": _plain_attention,
        "sigmas": sigma,
        "sample_sigmas": sigma,
        "cond_or_uncond": [0],
        "uuids": [uuid.uuid4()],
    }

    def run(given: Mapping[str, Any]) -> Tensor:
        try:
            return patcher.model.apply_model(noisy, sigma, transformer_options=options, **given)
        except RuntimeError as error:
            if "shapes cannot be multiplied" not in str(error):
                raise
            raise ValueError(
                f"MODEL and CLIP do not belong together: {type(patcher.model.model_config).__name__} cannot read text "
                f"of this CLIP's width ({error}). Connect both as the model's own instructions say."
            ) from error

    learned = [n for n, value in inputs.items() if isinstance(value, Tensor) and value.requires_grad]
    if not runs_twice or not learned:
        return run(inputs)
    return _Again.apply(run, inputs, learned, *(inputs[name] for name in learned))  # pyright: ignore[reportReturnType]


class _Again(torch.autograd.Function):
    """A denoiser whose blocks add in place: run without a graph, and once more with one when the gradient is asked for.

    Such a graph can only be kept inside of a guard that is still open at its backward. Costs one more forward.
    """

    @staticmethod
    def forward(ctx: Any, run: Callable, inputs: Mapping[str, Any], learned: list[str], *tensors: Tensor) -> Tensor:
        ctx.run, ctx.inputs, ctx.learned = run, inputs, learned
        ctx.save_for_backward(*tensors)
        return run(inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        tensors = [t.detach().requires_grad_(True) for t in ctx.saved_tensors]
        with torch.enable_grad(), overwriting_allowed():
            answer = ctx.run({**ctx.inputs, **dict(zip(ctx.learned, tensors, strict=True))})
            found = torch.autograd.grad(answer, tensors, gradient, allow_unused=True)
        return (None, None, None, *found)


def _plain_attention(function: Callable, *args: Any, **kwargs: Any) -> Tensor:
    # The host's own choice may have no backward (sage, int8) or recompute everything (the default on a CPU).
    return attention_pytorch(*args, **kwargs)
