"""Learning-rate schedules: the share of the full rate at each update."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

FINAL_SHARE = 0.05
"""Of the full rate, at the end of the cosine and of a cool-down."""


def cosine(step: int, steps: int) -> float:
    """From 1 at update 1 along a half cosine to FINAL_SHARE at update `steps` (Loshchilov & Hutter 2016)."""
    progress = (step - 1) / max(1, steps - 1)
    return FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * progress))


def constant(step: int, steps: int) -> float:
    return 1.0


SCHEDULES: Mapping[str, Callable[[int, int], float]] = {"cosine": cosine, "constant": constant}


def warm_up(step: int, warmup_steps: int) -> float:
    """Rises linearly from 0 before update 1 to 1 at update warmup_steps + 1."""
    return min(1.0, step / (warmup_steps + 1))


def cool_down(step: int, first: int, last: int) -> float:
    """Falls linearly from 1 before update `first` to FINAL_SHARE at update `last`."""
    progress = (step - first + 1) / (last - first + 1)
    return 1 - (1 - FINAL_SHARE) * min(1.0, max(0.0, progress))
