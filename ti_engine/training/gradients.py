"""The gradient of one update: what is drawn for it, and how it is summed up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..memory.out_of_memory import is_out_of_memory
from .backend import Backend
from .config import TrainConfig
from .samples import Samples, sample_losses

# For denoisers in float16, whose small gradients are all zero unscaled. As torch.amp.GradScaler starts.
FLOAT16_LOSS_SCALE = 2.0**16
_BACK_OFF = 4.0


class GradientSum:
    """Gradients of the mean loss of a batch, part by part, with the loss scaled as float16 needs it.

    What does not work is tried again with the same samples in a way that changes no result: where a gradient overflows
    while the loss does not, the scale is lowered for good; where memory runs out, batches are split further for good;
    when one sample alone does not fit, the denoiser is checkpointed, and after that fewer of its weights are loaded.
    """

    def __init__(self, backend: Backend, config: TrainConfig, vectors: Mapping[str, Tensor]) -> None:
        self._backend, self._config, self._vectors = backend, config, vectors
        self._scale = backend.loss_scale
        self.parts = _parts(config.batch_size, config.gradient_accumulation_steps)
        """How many parts a batch is computed in now."""
        if backend.samples_at_once:
            self.parts = max(self.parts, _parts(config.batch_size, -(-config.batch_size // backend.samples_at_once)))
        self.ran_out = False
        """Whether memory ran out and a smaller way was found."""
        if config.gradient_checkpointing == "on":
            backend.save_memory()

    def of(self, samples: Samples) -> float:
        """Sets `grad` of the vectors, unscaled; returns the loss.

        Raises what is_out_of_memory knows if one sample does not fit in any way.
        """
        while True:
            loss = self.in_memory(lambda: self._sum(samples))
            overflow = math.isfinite(loss) and not all(bool(g.isfinite().all()) for g in gradients_of(self._vectors))
            if not overflow or self._scale <= 1:
                return loss
            self._scale = max(1.0, self._scale / _BACK_OFF)

    def in_memory(self, compute: Callable[[], float]) -> float:
        """What `compute` returns; it is called again in the next smaller way whenever memory runs out.

        Raises what is_out_of_memory knows where there is none.
        """
        while True:
            try:
                return compute()
            except Exception as error:
                if not is_out_of_memory(error) or not self._smaller_is_possible():
                    raise
            self._step_back()  # out here, where the error no longer holds the failed step's tensors

    def _smaller_is_possible(self) -> bool:
        return self.parts < self._config.batch_size or self._config.gradient_checkpointing != "off"

    def _step_back(self) -> None:
        """The next smaller way to compute a batch. Raises MemoryError if there is none."""
        if self.parts < self._config.batch_size:
            self.parts = _parts(self._config.batch_size, self.parts + 1)
        elif not self._backend.save_memory() and not self._backend.load_less():
            raise MemoryError(f"The memory of {self._backend.device} does not hold a step of one sample.")
        self.ran_out = True
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _sum(self, samples: Samples) -> float:
        count = len(samples.captions)
        for rows in self._vectors.values():
            rows.grad = None
        total = 0.0
        for begin in range(0, count, count // self.parts):
            part = samples.part(slice(begin, begin + count // self.parts), self._backend.device)
            encoded = self._backend.encode(
                part.captions, {self._config.placeholder: self._vectors}, differentiable=True
            )
            losses = sample_losses(self._backend, part, encoded.cond)
            loss = losses.sum() / count
            if loss.requires_grad:  # else the gradients stay None, which the loop explains
                (loss * self._scale).backward()
                encoded.backward()
            total += float(loss.detach())
        for gradient in gradients_of(self._vectors):
            gradient /= self._scale
        return total


def _parts(batch_size: int, least: int) -> int:
    """The smallest number of equal parts of a batch that is at least `least`."""
    return next(n for n in range(least, batch_size + 1) if batch_size % n == 0)


def gradients_of(vectors: Mapping[str, Tensor]) -> list[Tensor]:
    """The gradients that are there."""
    return [rows.grad for rows in vectors.values() if rows.grad is not None]
