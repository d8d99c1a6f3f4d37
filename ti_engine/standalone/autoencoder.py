"""Pictures to latents in the model's scale, and back, by the autoencoders of diffusers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_AT_ONCE = 4  # pictures


class Autoencoder:
    """network: a frozen AutoencoderKL, AutoencoderTiny or VQModel, whose settings say how its latents are scaled."""

    def __init__(self, network: Any) -> None:
        self.network = network
        config = network.config
        tiny = "encoder_block_out_channels" in config
        stages = config.encoder_block_out_channels if tiny else config.block_out_channels
        self.factor = 2 ** (len(stages) - 1)
        """Pixels of a picture's side for one of its latents."""
        self.channels = int(config.latent_channels)
        # Latents of the model = (latents of the autoencoder - shift) * scale.
        self._shift = config.get("shift_factor") or 0.0
        self._scale = config.get("scaling_factor") or 1.0

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [N, 3, H, W] in 0..1 -> mean and standard deviation [N, C, h, w], on the CPU.

        In float32, or float64 where the network is. The deviation is zero where the network gives none.
        """
        parts = [self._encode_part(part) for part in pictures.split(_AT_ONCE)]
        mean, deviation = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return mean, deviation

    def _encode_part(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        network = self.network
        encoded = network.encode((pictures * 2 - 1).to(network.device, network.dtype))
        posterior = getattr(encoded, "latent_dist", None)
        mean = ((encoded.latents if posterior is None else posterior.mean) - self._shift) * self._scale
        deviation = torch.zeros_like(mean) if posterior is None else posterior.std * self._scale
        dtype = torch.promote_types(network.dtype, torch.float32)
        return mean.to("cpu", dtype), deviation.to("cpu", dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [N, C, h, w] -> pictures [N, 3, H, W] in 0..1, float32 on the CPU."""
        parts = (latents / self._scale + self._shift).to(self.network.dtype).split(_AT_ONCE)
        pictures = torch.cat([self.network.decode(part).sample for part in parts])
        return (pictures.float() / 2 + 0.5).clamp(0, 1).cpu()
