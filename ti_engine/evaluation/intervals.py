"""Means with bootstrap intervals: what would the score be with other pictures and other prompts of the same kind?

Percentile intervals at 95 % from 2,000 resamples, always with the same seed. With few prompts or pictures they are too
narrow, as every bootstrap is: 4 prompts say little about all prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RESAMPLES = 2000
LEVEL = 0.95
_SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A mean, and the ends of its 95 % interval; None where there is too little to resample."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        ends = "" if self.low is None or self.high is None else f" ({self.low:.3f} to {self.high:.3f})"
        return f"{self.value:.3f}{ends}"


def mean_of_pairs(cosines: Tensor) -> Estimate:
    """The mean of [N, M] over all pairs of a row's and a column's picture, both resampled: independent sets."""
    cosines = cosines.double()
    rows, columns = _counts(len(cosines)), _counts(cosines.shape[1], _SEED + 1)
    means = ((rows @ cosines) * columns).sum(1) / (len(cosines) * cosines.shape[1])
    return _estimate(float(cosines.mean()), means if len(cosines) > 1 else None)


def mean_among_themselves(cosines: Tensor) -> Estimate | None:
    """The mean of [N, N] over all pairs of two different pictures of one set: each with it left out. None for N < 2.

    A picture that a resample holds twice makes no pair with itself, whose cosine of 1 would raise the interval.
    """
    count = len(cosines)
    if count < 2:
        return None
    cosines = cosines.double()
    pairs = 1 - torch.eye(count, dtype=torch.float64)
    counts = _counts(count)
    number = ((counts @ pairs) * counts).sum(1)
    means = ((counts @ (cosines * pairs)) * counts).sum(1)[number > 0] / number[number > 0]
    return _estimate(float((cosines * pairs).sum() / pairs.sum()), means if count > 2 else None)


def mean_of_prompts(groups: Sequence[Sequence[Tensor]]) -> Estimate:
    """The mean over all prompts of the mean of each prompt's values [N].

    groups: prompts by kind. A resample draws prompts anew within each group, and within each drawn prompt its pictures.
    """
    prompts = [values.double() for group in groups for values in group]
    value = float(torch.stack([values.mean() for values in prompts]).mean())
    if all(len(group) == 1 and len(group[0]) == 1 for group in groups):
        return Estimate(value)
    generator = torch.Generator().manual_seed(_SEED)
    total = torch.zeros(RESAMPLES, dtype=torch.float64)
    for group in groups:
        for _ in group:
            total += _drawn_means([values.double() for values in group], generator)
    return _estimate(value, total / len(prompts))


def _drawn_means(group: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """[RESAMPLES]: each the mean of a prompt that was drawn from the group, over pictures drawn from that prompt."""
    chosen = torch.randint(len(group), (RESAMPLES,), generator=generator)
    means = torch.empty(RESAMPLES, dtype=torch.float64)
    for number, values in enumerate(group):
        here = (chosen == number).nonzero()[:, 0]
        drawn = torch.randint(len(values), (len(here), len(values)), generator=generator)
        means[here] = values[drawn].mean(1)
    return means


def _counts(count: int, seed: int = _SEED) -> Tensor:
    """[RESAMPLES, count]: how often each resample holds each of `count` pictures; `count` in all."""
    drawn = torch.randint(count, (RESAMPLES, count), generator=torch.Generator().manual_seed(seed))
    counts = torch.zeros(RESAMPLES, count, dtype=torch.float64)
    return counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))


def _estimate(value: float, means: Tensor | None) -> Estimate:
    if means is None:
        return Estimate(value)
    low, high = torch.quantile(means, means.new_tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2])).tolist()
    return Estimate(value, low, high)
