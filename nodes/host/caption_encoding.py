"""Captions through the host's text encoder, cut off from it so that its graph and the UNet's never coexist.

The captions are encoded without gradients; the loss's gradient is collected at that result; then they are encoded
again with gradients, and what was collected is carried on to the vectors. Same gradient as one graph, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import allow_mutation_on_saved_tensors
from torch.overrides import TorchFunctionMode

from .prompt import Tokens, tokenize


@dataclass
class Conditioning:
    """The distinct captions [U, T, D] of a batch, and which of them each sample has [B]."""

    distinct: Tensor
    index: Tensor

    def rows(self) -> Tensor:
        """[B, T, D]"""
        return self.distinct[self.index]


@dataclass
class EncodedBatch:
    """ti_engine.EncodedCaptions over a CLIP."""

    cond: Conditioning
    clip: Any
    tokens: Tokens
    chunks: list[int]

    def backward(self) -> None:
        """Carry the gradient of `cond` on to the vectors; does nothing where none arrived."""
        gradient = self.cond.distinct.grad
        if gradient is None:
            return
        # The encoder's layers add in place, which autograd refuses without the first guard; newer hosts write
        # into `out=` arguments, which the second one drops. Backward has to happen inside.
        with torch.enable_grad(), allow_mutation_on_saved_tensors(), _WithoutOut():
            again = _run_encoder(self.clip, self.tokens, self.chunks)
            again.backward(gradient)


class _WithoutOut(TorchFunctionMode):
    """`torch.add(a, b, out=c)` without its out: the result is returned and used, so this is exact."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.add, torch.mul):
            kwargs.pop("out", None)
        return func(*args, **kwargs)


def encode_captions(
    clip: Any, captions: Sequence[str], placeholder: str, vectors: Mapping[str, Tensor], differentiable: bool
) -> EncodedBatch:
    """Captions with `vectors` in place of the placeholder. The CLIP has to be loaded already (borrow.Loan).

    Each distinct caption is encoded once.
    """
    distinct = list(dict.fromkeys(captions))
    tokens, chunks = _join([tokenize(clip, caption, {placeholder: vectors}) for caption in distinct])
    with torch.no_grad():
        encoded = _run_encoder(clip, tokens, chunks).clone()
    encoded.requires_grad_(differentiable)
    index = torch.tensor([distinct.index(c) for c in captions], device=encoded.device)
    return EncodedBatch(Conditioning(encoded, index), clip, tokens, chunks)


def _join(parts: Sequence[Tokens]) -> tuple[Tokens, list[int]]:
    """One dict of tokens with the chunks of all captions, and how many each caption has."""
    (key,) = parts[0]
    return {key: [chunk for part in parts for chunk in part[key]]}, [len(part[key]) for part in parts]


def _run_encoder(clip: Any, tokens: Tokens, chunks: list[int]) -> Tensor:
    """[U, T, D] for U captions of `chunks[i]` chunks each, repeated to a common length as the host's sampler does.

    Calls the encoder as `CLIP.encode_from_tokens` does, but without loading: that could evict the UNet on loan.
    """
    encoder = clip.cond_stage_model
    encoder.reset_clip_options()
    if clip.layer_idx is not None:
        encoder.set_clip_options({"layer": clip.layer_idx})
    encoder.set_clip_options({"execution_device": clip.patcher.load_device})
    joined = encoder.encode_token_weights(tokens)[0]  # [1, all chunks * length, D]
    parts = joined[0].unflatten(0, (sum(chunks), -1)).split(chunks)
    common = math.lcm(*chunks)
    return torch.stack([part.flatten(0, 1).repeat(common // len(part), 1) for part in parts])
