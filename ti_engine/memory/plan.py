"""How a batch is computed in the memory that there is: how many samples at once, and what is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

MARGIN = 1.15
"""Of the bytes that are counted: what an allocator loses between its blocks, and what a device's libraries take."""


class Recompute(IntEnum):
    """What runs a second time for the gradient instead of keeping what it computed (checkpointing.py).

    The text encoders are a small part of a step, but copies of all their weights may be kept for it.
    """

    NOTHING = 0
    ENCODERS = 1
    EVERYTHING = 2


@dataclass(frozen=True)
class MemoryPlan:
    """samples_at_once: the largest part of a batch that is computed together. bytes: the most that a step holds beside
    the weights; None if it could not be counted.
    """

    samples_at_once: int
    recompute: Recompute
    bytes: int | None


def choose_plan(
    count: Callable[[int, Recompute], int | None],
    batch_size: int,
    available: float,
    ways: Sequence[Recompute] = tuple(Recompute),
) -> MemoryPlan:
    """The fastest plan that fits into `available` bytes; the smallest where none does, the last way if none is known.

    count: bytes of a step of so many samples. Counting takes seconds, so it is asked for the whole batch and, if that
    does not fit, for one sample: every sample needs the same. ways: those to choose from, the fastest first.
    """
    smallest = None
    for way in ways:
        whole = count(batch_size, way)
        if whole is None:
            continue
        sizes = {batch_size: whole}
        # To run the encoders twice costs less than to split the batch.
        if whole * MARGIN > available and batch_size > 1 and (way is not Recompute.NOTHING or way is ways[-1]):
            one = count(1, way) or whole
            each = (whole - one) / (batch_size - 1)
            sizes = {n: one + (n - 1) * each for n in range(batch_size, 0, -1) if batch_size % n == 0}
        for samples, needed in sizes.items():
            plan = MemoryPlan(samples, way, int(needed * MARGIN))
            if needed * MARGIN <= available:
                return plan
            smallest = plan if smallest is None or int(needed * MARGIN) < (smallest.bytes or 0) else smallest
    return smallest or MemoryPlan(batch_size, ways[-1], None)
