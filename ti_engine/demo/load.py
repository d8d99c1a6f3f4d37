"""The demo model for the engine, on diffusers' and transformers' classes."""

from __future__ import annotations

from typing import Any

import torch

from ..standalone import DiffusersBackend, LooseParts
from ..standalone.load import check_installed, sha256_of
from . import model
from .tokenizer import DemoTokenizer


def load_demo(device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> DiffusersBackend:
    """The demo model. dtype: what its networks compute in. ValueError where diffusers is not installed."""
    check_installed()
    networks: tuple[Any, Any, Any] = model.load_networks(model.WEIGHTS)
    if dtype != torch.float32:  # diffusers warns where it is asked for the precision that is there already
        networks = tuple(network.to(dtype) for network in networks)  # type: ignore[assignment]
    unet, text_encoder, autoencoder = (network.to(device) for network in networks)
    parts = LooseParts(unet, text_encoder, DemoTokenizer(), autoencoder, model.build_scheduler())
    return DiffusersBackend(parts, model.GUIDANCE, "demo", sha256_of(model.WEIGHTS))
