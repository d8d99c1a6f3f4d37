"""The memory of a step of training, its stages counted with fake tensors and each of them once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ....ti_engine.memory.plan import Checkpointing
from ....ti_engine.training.backend import EncodedCaptions
from ..denoiser import denoise
from ..models.family import Family
from ..text.caption_encoding import Conditioning, Entry, encode_captions
from .checkpointing import Blocks
from .memory_count import counted_stages


class _Encoders(NamedTuple):
    """Bytes of one pass of the text encoders: the most of its forward, what it keeps for its backward, the most of
    that; and those that are kept once for all passes, which are among all of them."""

    forward: int
    kept: int
    backward: int
    once: int


@dataclass
class StepCount:
    """Bytes that steps of a model hold beside the weights. latents: shape of one picture's, [C, (1,) h, w].

    What the encoders keep is there while the denoiser runs, and each of the two is checkpointed or not; so each is
    counted once as it is and once checkpointed.
    """

    patcher: Any
    clip: Any
    family: Family
    blocks: Blocks
    latents: Sequence[int]
    _encoders: dict[Any, _Encoders] = field(default_factory=dict)
    _denoiser: dict[Any, int] = field(default_factory=dict)

    def bytes(self, samples: int, checkpointing: Checkpointing, offloaded: bool = False) -> int | None:
        """Of a step of so many samples; None if it cannot be counted. offloaded: as of `counted_stages`."""
        captions = samples if self.family.joins_captions else 1  # else one after another, and one is like the other
        encoders = (samples, captions, checkpointing >= Checkpointing.TEXT_ENCODERS, offloaded)
        denoiser = (samples, checkpointing >= Checkpointing.EVERYTHING, offloaded)
        if not self._count(encoders, denoiser, checkpointing):
            return None
        text = self._encoders[encoders]
        others = (samples // captions - 1) * (text.kept - text.once)
        return others + max(text.forward, text.kept + self._denoiser[denoiser], text.backward)

    def weights(self) -> int:
        """Bytes of the weights that the denoiser's device computes with."""
        patchers = (self.patcher, self.clip.patcher)
        return sum(patcher.model_size() for patcher in patchers if patcher.load_device == self.patcher.load_device)

    def _count(self, encoders: Any, denoiser: Any, checkpointing: Checkpointing) -> bool:
        """Finds what is not known of them yet; False if that is impossible."""
        step = _FakeStep(self, samples=denoiser[0], captions=encoders[1])
        stages = {step.read_prefixes: True, step.encode: True, step.denoise: denoiser not in self._denoiser}
        stages[step.carry_on] = encoders not in self._encoders
        if not any([*stages.values()][2:]):
            return True
        wanted = [stage for stage, is_wanted in stages.items() if is_wanted]
        patchers = [self.patcher, self.clip.patcher]
        counted = counted_stages(patchers, wanted, self.blocks.checkpointed(checkpointing), offloaded=encoders[-1])
        if counted is None:
            return False
        held = dict(zip(wanted, counted, strict=True))
        forward, kept = held[step.encode]
        if step.denoise in held:
            self._denoiser[denoiser] = held[step.denoise].peak - kept
        if step.carry_on in held:
            self._encoders[encoders] = _Encoders(forward, kept, held[step.carry_on].peak, held[step.read_prefixes].kept)
        return True


class _FakeStep:
    """A step that computes with whatever memory holds; its stages in the order in which they run."""

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
        count, family, (_, *rest) = self._count, self._count.family, self._count.latents
        latents = torch.empty(self._samples, *count.latents, device=count.patcher.load_device)
        more = family.inpainting_channels
        inpainting = latents.new_empty(self._samples, more, *rest) if more else None
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
