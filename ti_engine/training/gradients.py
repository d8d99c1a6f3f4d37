"""The gradient of one update: part by part of a batch, with the loss scaled as float16 needs it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..memory.ladder import Ladder
from .backend import Backend, EncoderInfo, Words
from .determinism import deterministic_kernels
from .loss import sample_losses
from .samples import Samples

# For denoisers in float16, whose small gradients are all zero unscaled. As torch.amp.GradScaler starts.
FLOAT16_LOSS_SCALE = 2.0**16
_BACK_OFF = 4.0
_GROWTH = 2.0
_GROWTH_INTERVAL = 50  # updates


@dataclass
class LossScale:
    """A factor on the loss against underflow: lower after a gradient that overflows, back up after many that do not.

    value: now. highest: where it started, and never rises above. good_updates: without an overflow since it changed.
    A power of two, so it changes no bit of a gradient that neither overflows nor underflows.
    """

    value: float
    highest: float
    good_updates: int = 0

    def lower(self) -> None:
        self.value, self.good_updates = max(1.0, self.value / _BACK_OFF), 0

    def count_good_update(self) -> None:
        self.good_updates += 1
        if self.good_updates >= _GROWTH_INTERVAL:
            self.value, self.good_updates = min(self.highest, self.value * _GROWTH), 0


def compute_gradient(backend: Backend, samples: Samples, words: Words, loss_scale: LossScale, ladder: Ladder) -> float:
    """Sets `grad` of the vectors in `words` to that of the mean loss of `samples`, unscaled; returns the loss.

    A gradient that overflows while the loss does not is computed again with a lower loss scale, from the same samples.
    Raises the out-of-memory error (`is_out_of_memory`) if one sample does not fit in any way.
    """
    while True:
        loss = ladder.run(_sum_of_parts, backend, samples, words, loss_scale.value)
        gradients = [gradient for vectors in words.values() for gradient in gradients_of(vectors)]
        overflow = math.isfinite(loss) and not all_finite(gradients)
        if not overflow:
            loss_scale.count_good_update()
            return loss
        if loss_scale.value <= 1:
            return loss
        loss_scale.lower()


@deterministic_kernels()
def _sum_of_parts(backend: Backend, samples: Samples, words: Words, loss_scale: float, at_once: int) -> float:
    count, total = len(samples.captions), 0.0
    for vectors in words.values():
        for rows in vectors.values():
            rows.grad = None
    for begin in range(0, count, at_once):
        part = samples.part(slice(begin, begin + at_once), backend.device)
        encoded = backend.encode(part.captions, words, differentiable=True)
        loss = sample_losses(backend, part, encoded.cond).sum() / count
        if loss.requires_grad:  # else the gradients stay None, which the loop explains
            (loss * loss_scale).backward()
            encoded.backward()
        total += float(loss.detach())
    for vectors in words.values():
        for gradient in gradients_of(vectors):
            gradient /= loss_scale
    return total


def gradients_of(vectors: Mapping[str, Tensor]) -> list[Tensor]:
    """The gradients that are there."""
    return [rows.grad for rows in vectors.values() if rows.grad is not None]


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether none of them holds NaN or infinity."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def clip_gradient(vectors: Mapping[str, Tensor], encoders: Mapping[str, EncoderInfo], limit: float) -> None:
    """Shortens the gradient of all vectors together to `limit`, if it is longer (Pascanu et al. 2013).

    It is measured for vocabularies of SD1's scale: each encoder's gradient counts times the scale of its vocabulary.
    Gradients are as much smaller as a vocabulary is larger, so without this the encoder with the smallest vectors
    would decide for all.
    """
    lengths = [rows.grad.norm() * encoders[key].scale for key, rows in vectors.items() if rows.grad is not None]
    if not lengths:
        return
    length = float(torch.stack([length.cpu() for length in lengths]).norm())
    if length > limit:
        for gradient in gradients_of(vectors):
            gradient *= limit / length
