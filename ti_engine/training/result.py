"""Which vectors a run returns, and when it ends before its last step. docs/result.md compares these rules with others.

Nothing here depends on `evaluate_every`: a run looks at its fixed evaluation set for itself where it has to decide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .config import TrainConfig

AVERAGED = 0.5
"""Share of the states, the last ones, whose mean may be returned."""
WINDOW = 100
"""Updates whose states are averaged to see whether the loss still falls."""
COOL_DOWN = 0.25
"""Updates of the cool-down that ends a run early, as a share of those before it."""


def candidate_states(last: int) -> tuple[range, range]:
    """The steps whose states may be returned as their mean, after `last` updates: the second half, and the last alone.

    A stochastic optimizer scatters around the optimum, and the mean of its states lies nearer to it (Polyak & Juditsky
    1992); in a short run that still moves, the last state does. No single earlier state is a candidate: the lowest of
    many noisy losses is mostly luck.
    """
    half = max(1, math.ceil(AVERAGED * last))
    return range(last + 1 - half, last + 1), range(last, last + 1)


def choose_states(last: int, losses: Mapping[range, Tensor]) -> range:
    """The candidate that is returned, by the losses [N] of both on the fixed evaluation set.

    The mean of the second half, unless the last state is better by more than the standard error of their paired
    difference; also the mean where nobody has looked.
    """
    average, final = candidate_states(last)
    if average not in losses or final not in losses:
        return average
    lead = losses[average] - losses[final]
    if not bool(losses[average].isfinite().all()):
        return final
    return final if float(lead.mean()) > standard_error(lead) else average


def mean_of_states(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Encoder key -> mean of the vectors of `states`, as tensors of their own."""
    return {key: torch.stack([state[key] for state in states]).mean(0) for key in states[0]}


def describe_states(steps: range) -> str:
    """The states that a run returns, for a sentence."""
    if len(steps) == 1:
        return f"the vectors after step {steps[0]}"
    if steps.step != 1:
        return f"the mean of the vectors after steps {steps[0]} to {steps[-1]}, taken every {steps.step} steps"
    return f"the mean of the vectors after steps {steps[0]} to {steps[-1]}"


def window_ends(config: TrainConfig, step: int) -> bool:
    """Whether the run looks after `step` updates whether the loss still falls: every WINDOW updates, as long as a
    cool-down would still end the run earlier."""
    return config.early_stop and step % WINDOW == 0 and _cooled(max(step, 2 * WINDOW)) < config.steps


def plan_cool_down(config: TrainConfig, step: int, before: Tensor | None, now: Tensor) -> tuple[int, int] | None:
    """First and last update of the cool-down after `step`, if the loss no longer falls; None if it does.

    before, now: losses [N] on the fixed evaluation set of the mean states of the last two windows; `before` is None
    after the first one. The loss falls if their paired difference is more than its standard error.
    """
    if before is None or _cooled(step) >= config.steps:
        return None
    difference = before - now
    if float(difference.mean()) > standard_error(difference):
        return None
    return step + 1, _cooled(step)


def standard_error(values: Tensor) -> float:
    """Of the mean of values [N]."""
    return float(values.double().std()) / len(values) ** 0.5


def _cooled(step: int) -> int:
    """The last update of a cool-down that begins after `step`."""
    return step + math.ceil(COOL_DOWN * step)
