"""The memory of a step of training in every way that it can be computed, each part of it counted once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...ti_engine.memory_plan import Recompute
from .caption_encoding import Conditioning, Entry, encode_captions
from .denoiser import denoise
from .family import Family
from .memory_count import counted_parts
from .recomputing import Blocks


@dataclass
class StepCount:
    """Bytes that steps of a model hold beside the weights. one: shape of one picture's latents, [1, C, (1,) h, w].

    The encoders and the denoiser never hold their graphs at the same time, and each runs twice or not for itself, so
    a step takes as much as the larger of the two parts.
    """

    patcher: Any
    clip: Any
    family: Family
    blocks: Blocks
    one: Sequence[int]
    _found: dict[tuple[str, int, bool], int] = field(default_factory=dict)

    def bytes(self, samples: int, way: Recompute) -> int | None:
        """Of a step of so many samples; None if it cannot be counted."""
        parts = {  # in the order of a step
            "denoiser": (samples, way >= Recompute.EVERYTHING),
            "encoders": (samples, way >= Recompute.ENCODERS),
        }
        left = [name for name, key in parts.items() if (name, *key) not in self._found]
        if left:
            step = StepWithoutContents(self, samples, way)
            peaks = counted_parts(
                [self.patcher, self.clip.patcher],
                [step.prepare, *(getattr(step, name) for name in left)],
                self.blocks.recomputed(way),
            )
            if peaks is None:
                return None
            self._found.update({(name, *parts[name]): peak for name, peak in zip(left, peaks[1:], strict=True)})
        return max(self._found[(name, *key)] for name, key in parts.items())


class StepWithoutContents:
    """A step that computes with whatever memory holds; its parts in the order in which they stand."""

    def __init__(self, count: StepCount, samples: int, way: Recompute) -> None:
        self._count, self._samples, self._way = count, samples, way

    def prepare(self) -> None:
        """The captions, which are encoded without a graph first."""
        count, samples = self._count, self._samples
        together = count.family.joins_captions
        captions = [f"a photo of S* , {number}" for number in range(samples if together else 1)]
        vectors = {k: torch.empty(1, e.width, requires_grad=True) for k, e in count.family.encoders.items()}
        guarded = count.blocks.guard_encoders(self._way)
        self._encoded = encode_captions(count.clip, captions, {"S*": vectors}, True, together, guarded)
        if not together:  # then they go one after another, and one is like the other
            (entry,) = self._encoded.cond.distinct
            self._encoded.cond = Conditioning([another(entry) for _ in range(samples)], [*range(samples)])
        self._latents = torch.empty(samples, *count.one[1:], device=count.patcher.load_device)

    def denoiser(self) -> None:
        count, sigma = self._count, self._latents.new_ones(self._samples)
        twice = count.blocks.denoiser_as_a_whole(self._way)
        denoise(count.patcher, self._latents, sigma, self._encoded.cond, count.family, twice).sum().backward()

    def encoders(self) -> None:
        for entry in self._encoded.cond.distinct:
            for leaf in entry.values():
                if isinstance(leaf, Tensor) and leaf.requires_grad and leaf.grad is None:
                    leaf.grad = torch.empty_like(leaf)
        self._encoded.backward()


def another(entry: Entry) -> Entry:
    """An entry like it, with tensors of its own."""

    def twin(value: Any) -> Any:
        return value.detach().clone().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value

    return {name: twin(value) for name, value in entry.items()}
