"""Which layers of a model and its text encoders can be checkpointed, and what is computed but once for a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.sd1_clip import SDClipModel
from comfy.text_encoders.t5 import T5Block
from torch import nn

from ....ti_engine.memory.checkpointing import Forward, checkpointed, lent_forwards
from ....ti_engine.memory.overwritten import overwriting_allowed
from ....ti_engine.memory.plan import Checkpointing
from ..text.caption_encoding import encoder_guard
from ..text.frozen_prefix import frozen_prefixes

_SEQUENCES = (nn.ModuleList, nn.ModuleDict, nn.Sequential, SpatialTransformer)


@dataclass(frozen=True)
class Blocks:
    """The layers of the text encoders and the blocks of the denoiser, as far as they can be checkpointed.

    denoiser_adds_in_place: its blocks overwrite what autograd would have to keep. prefixes: as of prompt_prefixes.
    """

    encoders: Sequence[nn.Module]
    denoiser: Sequence[nn.Module]
    denoiser_adds_in_place: bool
    prefixes: Mapping[SDClipModel, Sequence[int]] = field(default_factory=dict)

    @contextmanager
    def checkpointed(self, checkpointing: Checkpointing) -> Iterator[None]:
        """Checkpoints them while this lasts, in which no weight may change."""
        with ExitStack() as stack:
            if checkpointing >= Checkpointing.TEXT_ENCODERS:
                stack.enter_context(checkpointed(self.encoders, encoder_guard))
                stack.enter_context(lent_forwards(_with_own_distances(self.encoders), _without_given_distances))
            if checkpointing >= Checkpointing.EVERYTHING:
                guard = overwriting_allowed if self.denoiser_adds_in_place else nullcontext
                stack.enter_context(checkpointed(self.denoiser, guard))
            stack.enter_context(frozen_prefixes(self.prefixes))  # outside: only what is behind them is computed again
            yield


def _with_own_distances(layers: Iterable[Any]) -> list[nn.Module]:
    """Layers of umT5, each of which computes its own table of distances and passes over the one before's."""
    layers = (layer for layer in layers if isinstance(layer, T5Block))
    return [layer for layer in layers if layer.layer[0].SelfAttention.relative_attention_bias is not None]


def _without_given_distances(forward: Forward) -> Forward:
    """So that checkpointing does not keep the table of the layer before, 67 MB for each of Wan's."""
    return lambda x, mask, _, optimized_attention: forward(x, mask, None, optimized_attention)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The outermost modules in the network's lists, without single layers.

    Of a UNet its residual and its transformer blocks, whose sequences the host goes through itself; of a transformer
    its layers. Empty for a network without lists.
    """
    return list(_blocks(network, inside=isinstance(network, _SEQUENCES)))


def _blocks(module: nn.Module, inside: bool) -> Iterator[Any]:
    for child in module.children():
        if isinstance(child, _SEQUENCES):
            yield from _blocks(child, inside=True)
        elif not inside:
            yield from _blocks(child, inside=False)
        elif any(True for _ in child.children()):
            yield child
