"""How a batch is computed in the memory that there is: how many samples at once, and what is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

MARGIN = 1.15
"""Of the bytes that are counted: what an allocator loses between its blocks, and what a device's libraries take."""


@dataclass(frozen=True)
class MemoryPlan:
    """samples_at_once: the largest part of a batch that is computed together. checkpointing: blocks run twice and keep
    only their inputs. bytes: the most that a step holds beside the weights; None if it could not be counted.
    """

    samples_at_once: int
    checkpointing: bool
    bytes: int | None


def choose_plan(
    count: Callable[[int, bool], int | None],
    batch_size: int,
    available: float,
    modes: Sequence[bool] = (False, True),
) -> MemoryPlan:
    """The fastest plan that fits into `available` bytes; the smallest where none does, or the first if none is known.

    count: bytes of a step of so many samples, with checkpointing or without. Counting takes seconds, so it is asked for
    the whole batch and, if that does not fit, for one sample: every sample needs the same. modes: with and without
    checkpointing, the faster first.
    """
    smallest = None
    for checkpointing in modes:
        whole = count(batch_size, checkpointing)
        if whole is None:
            continue
        if whole * MARGIN <= available or batch_size == 1:
            sizes = {batch_size: whole}
        else:
            one = count(1, checkpointing) or whole
            each = (whole - one) / (batch_size - 1)
            sizes = {n: one + (n - 1) * each for n in range(batch_size, 0, -1) if batch_size % n == 0}
        for samples, needed in sizes.items():
            smallest = MemoryPlan(samples, checkpointing, int(needed * MARGIN))
            if needed * MARGIN <= available:
                return smallest
    return smallest or MemoryPlan(batch_size, modes[0], None)
