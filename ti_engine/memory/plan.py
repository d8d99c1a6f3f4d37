"""How a batch is computed in the memory that there is: the size of its micro-batches, and what is checkpointed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

MARGIN = 1.15
"""Of the bytes that are counted: what an allocator loses between its blocks, and what a device's libraries take."""


class Checkpointing(IntEnum):
    """Which blocks are checkpointed (checkpointing.py).

    The text encoders are a small part of a step, but copies of all their weights may be kept for it.
    """

    NONE = 0
    TEXT_ENCODERS = 1
    EVERYTHING = 2

    @classmethod
    def allowed(cls, setting: str) -> tuple[Checkpointing, ...]:
        """Those that TrainConfig.gradient_checkpointing leaves to choose from, the fastest first."""
        return {"off": (cls.NONE,), "on": (cls.EVERYTHING,), "auto": tuple(cls)}[setting]


@dataclass(frozen=True)
class MemoryPlan:
    """micro_batch: samples that are computed together. bytes: the most that a step holds beside the weights; None if it
    was not or could not be counted.
    """

    micro_batch: int
    checkpointing: Checkpointing
    bytes: int | None


def choose_plan(
    count: Callable[[int, Checkpointing], int | None],
    batch_size: int,
    available: float,
    allowed: Sequence[Checkpointing] = tuple(Checkpointing),
) -> MemoryPlan:
    """The fastest plan that fits into `available` bytes; the smallest where none does.

    count: bytes of a step of so many samples; None if it cannot be counted. Counting takes seconds, so it is asked for
    the whole batch and, if that does not fit, for one sample: every sample needs the same. allowed: the fastest first;
    the last one is taken where nothing can be counted.
    """
    smallest = None
    for checkpointing in allowed:
        whole = count(batch_size, checkpointing)
        if whole is None:
            continue
        sizes = {batch_size: whole}
        # To checkpoint the encoders costs less than to split the batch.
        may_split = checkpointing is not Checkpointing.NONE or checkpointing is allowed[-1]
        if whole * MARGIN > available and batch_size > 1 and may_split:
            one = count(1, checkpointing) or whole
            each = (whole - one) / (batch_size - 1)
            sizes = {n: one + (n - 1) * each for n in range(batch_size, 0, -1) if batch_size % n == 0}
        for micro_batch, needed in sizes.items():
            plan = MemoryPlan(micro_batch, checkpointing, int(needed * MARGIN))
            if needed * MARGIN <= available:
                return plan
            smallest = plan if smallest is None or int(needed * MARGIN) < (smallest.bytes or 0) else smallest
    return smallest or MemoryPlan(batch_size, allowed[-1], None)
