"""The out-of-memory ladder: what runs out of memory is computed again in a way that takes less and changes no result.

In this order: fewer samples at once, down to one; checkpointing; fewer weights on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch

from .out_of_memory import is_out_of_memory

_Result = TypeVar("_Result")


class SavesMemory(Protocol):
    """What the ladder asks of a backend."""

    samples_at_once: int | None
    device: torch.device

    def save_memory(self) -> bool: ...

    def load_less(self) -> bool: ...


class Ladder:
    """Where a run stands on the ladder. It only ever steps down, and stays there."""

    def __init__(self, backend: SavesMemory, batch_size: int, parts: int, may_checkpoint: bool) -> None:
        """parts: how many equal parts a batch is computed in, at least. may_checkpoint: whether the steps below one
        sample at once are allowed."""
        self._backend, self._batch_size, self._may_checkpoint = backend, batch_size, may_checkpoint
        self.steps_down = 0
        """How often memory ran out and a way that takes less was found."""
        if backend.samples_at_once:
            parts = max(parts, -(-batch_size // backend.samples_at_once))
        self.parts = equal_parts(batch_size, parts)
        """How many parts a batch is computed in now."""

    @property
    def samples_at_once(self) -> int:
        """Samples in each part of a batch."""
        return self._batch_size // self.parts

    def run(self, compute: Callable[..., _Result], *arguments: Any) -> _Result:
        """`compute(*arguments, samples_at_once)`; again one step further down whenever memory runs out.

        Raises the out-of-memory error (`is_out_of_memory`) where there is no further step.
        """
        while True:
            try:
                return compute(*arguments, self.samples_at_once)
            except Exception as error:
                last = self.parts == self._batch_size and not self._may_checkpoint
                if last or not is_out_of_memory(error):
                    raise
            self._step_down()  # out here, where the error no longer holds the tensors of what failed

    def _step_down(self) -> None:
        if self.parts < self._batch_size:
            self.parts = equal_parts(self._batch_size, self.parts + 1)
        elif not self._backend.save_memory() and not self._backend.load_less():
            raise MemoryError(f"The memory of {self._backend.device} does not hold a step of one sample.")
        self.steps_down += 1
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def equal_parts(batch_size: int, least: int) -> int:
    """The smallest number of equal parts of a batch that is at least `least`."""
    return next(n for n in range(least, batch_size + 1) if batch_size % n == 0)
