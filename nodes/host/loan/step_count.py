"""The memory of a step of training in every way that it can be computed, each part of it counted once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ....ti_engine.memory.plan import Recompute
from ....ti_engine.training.backend import EncodedCaptions
from ..denoiser import denoise
from ..models.family import Family
from ..text.caption_encoding import Conditioning, Entry, encode_captions
from .memory_count import counted_parts
from .recomputing import Blocks


class _Encoders(NamedTuple):
    """Bytes of one pass of the text encoders: the most of its forward, what it keeps for its backward, the most of
    that; and those that are kept once for all passes, which are among all of them."""

    forward: int
    kept: int
    backward: int
    once: int


@dataclass
class StepCount:
    """Bytes that steps of a model hold beside the weights. one: shape of one picture's latents, [1, C, (1,) h, w].

    What the encoders keep is there while the denoiser runs, and both run twice or not for themselves; so each of the
    two is counted once for each of its ways.
    """

    patcher: Any
    clip: Any
    family: Family
    blocks: Blocks
    one: Sequence[int]
    _encoders: dict[Any, _Encoders] = field(default_factory=dict)
    _denoiser: dict[Any, int] = field(default_factory=dict)

    def bytes(self, samples: int, way: Recompute, fetched: bool = False) -> int | None:
        """Of a step of so many samples; None if it cannot be counted. fetched: as of `counted_parts`."""
        captions = samples if self.family.joins_captions else 1  # else one after another, and one is like the other
        encoders = (samples, captions, way >= Recompute.ENCODERS, fetched)
        denoiser = (samples, way >= Recompute.EVERYTHING, fetched)
        if not self._count(encoders, denoiser, way):
            return None
        text = self._encoders[encoders]
        others = (samples // captions - 1) * (text.kept - text.once)
        return others + max(text.forward, text.kept + self._denoiser[denoiser], text.backward)

    def _count(self, encoders: Any, denoiser: Any, way: Recompute) -> bool:
        """Finds what is not known of them yet; False if that is impossible."""
        step = StepWithoutContents(self, samples=denoiser[0], captions=encoders[1])
        parts = {step.read_prefixes: True, step.encode: True, step.denoise: denoiser not in self._denoiser}
        parts[step.carry_on] = encoders not in self._encoders
        if not any([*parts.values()][2:]):
            return True
        wanted = [part for part, is_wanted in parts.items() if is_wanted]
        patchers = [self.patcher, self.clip.patcher]
        counted = counted_parts(patchers, wanted, self.blocks.recomputed(way), fetched=encoders[-1])
        if counted is None:
            return False
        held = dict(zip(wanted, counted, strict=True))
        forward, kept = held[step.encode]
        if step.denoise in held:
            self._denoiser[denoiser] = held[step.denoise].peak - kept
        if step.carry_on in held:
            self._encoders[encoders] = _Encoders(forward, kept, held[step.carry_on].peak, held[step.read_prefixes].kept)
        return True


class StepWithoutContents:
    """A step that computes with whatever memory holds; its parts in the order in which they stand."""

    def __init__(self, count: StepCount, samples: int, captions: int) -> None:
        self._count, self._samples, self._captions = count, samples, captions

    def read_prefixes(self) -> None:
        if self._count.blocks.prefixes:
            self._encode(differentiable=False)

    def _encode(self, differentiable: bool) -> EncodedCaptions:
        count, captions = self._count, ["a photo of S* red big" + " ." * more for more in range(self._captions)]
        vectors = {key: torch.empty(1, e.width, requires_grad=True) for key, e in count.family.encoders.items()}
        return encode_captions(count.clip, captions, {"S*": vectors}, differentiable, count.family.joins_captions)

    def encode(self) -> None:
        self._encoded = self._encode(differentiable=True)
        distinct = self._encoded.cond.distinct
        others = [_as_leaves(distinct[0]) for _ in range(self._samples - len(distinct))]
        self._cond = Conditioning([*distinct, *others], [*range(self._samples)])

    def denoise(self) -> None:
        count, family = self._count, self._count.family
        everything = torch.empty(self._samples, *count.one[1:], device=count.patcher.load_device)
        latents, channels = everything.split([family.latent_channels, family.inpainting_channels], dim=1)
        inpainting = channels if family.inpainting_channels else None
        sigma = latents.new_ones(self._samples)
        denoise(count.patcher, latents, sigma, self._cond, family, inpainting).sum().backward()

    def carry_on(self) -> None:
        for entry in self._cond.distinct:
            for leaf in entry.values():
                if isinstance(leaf, Tensor) and leaf.requires_grad and leaf.grad is None:
                    leaf.grad = torch.empty_like(leaf)
        self._encoded.backward()


def _as_leaves(entry: Entry) -> Entry:
    """The same tensors once more, as leaves that collect gradients of their own."""
    return {k: v.detach().requires_grad_(v.requires_grad) if isinstance(v, Tensor) else v for k, v in entry.items()}
