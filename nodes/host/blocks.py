"""The blocks that a denoiser is a sequence of: what gradient checkpointing recomputes one at a time."""

from __future__ import annotations

from comfy.ldm.modules.attention import SpatialTransformer
from torch import nn

_SEQUENCES = (nn.ModuleList, nn.Sequential, SpatialTransformer)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The outermost modules in the network's lists, without single layers.

    Of a UNet its residual and its transformer blocks, whose sequences the host goes through itself; of a transformer
    its layers. Empty for a network without lists.
    """
    return list(_blocks(network, inside=isinstance(network, _SEQUENCES)))


def _blocks(module: nn.Module, inside: bool):
    for child in module.children():
        if isinstance(child, _SEQUENCES):
            yield from _blocks(child, inside=True)
        elif not inside:
            yield from _blocks(child, inside=False)
        elif any(True for _ in child.children()):
            yield child
