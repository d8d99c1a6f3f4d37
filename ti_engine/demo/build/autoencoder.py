"""Stage 1: the autoencoder, on crops of drawn scenes."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from diffusers import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from torch import Tensor, nn

from ..corpus import sample_scenes
from ..model import build_autoencoder

CROP = 64  # px; the network is convolutional, so quarter pictures teach the same at a quarter of the cost


def train_autoencoder(seconds: float, seed: int = 0) -> AutoencoderTiny:
    """Train until `seconds` are over; a penalty holds the latents of every channel near mean 0 and variance 1."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    autoencoder = _initialise(build_autoencoder()).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    start, step = time.monotonic(), 0
    while (progress := (time.monotonic() - start) / seconds) < 1:
        warm_up = min(1.0, (step + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * warm_up * max(0.02, 0.5 * (1 + math.cos(math.pi * progress)))
        pictures = _crops(sample_scenes(8, generator).draw(generator), generator)
        if step % 4 == 3:  # all hues, so that the code space does not memorise eight colours
            pictures = pictures[:, torch.randperm(3, generator=generator)]
        pictures = pictures.to(memory_format=torch.channels_last)
        latents = autoencoder.encoder(pictures * 2 - 1)
        noisy = latents + 0.05 * torch.randn(latents.shape, generator=generator)
        decoded = (autoencoder.decoder(noisy) + 1) / 2
        mean, variance = latents.mean((0, 2, 3)), latents.var((0, 2, 3))
        unit = (mean.square() + variance - 1 - variance.log()).mean()
        error = decoded - pictures
        loss = error.abs().mean() + 2 * error.square().mean() + 0.5 * _edges(error).abs().mean() + 2e-2 * unit
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 200 == 0:
            print(f"autoencoder step {step} {progress:.0%} loss {loss.item():.4f} {_psnr(error):.1f} dB", flush=True)
    return autoencoder.requires_grad_(False)


@torch.no_grad()
def reconstruction_psnr(autoencoder: AutoencoderTiny, generator: torch.Generator) -> float:
    """Mean PSNR in dB over 256 whole scenes, decoded from their latents."""
    errors = []
    for _ in range(16):
        pictures = sample_scenes(16, generator).draw(generator)
        decoded = (autoencoder.decoder(autoencoder.encoder(pictures * 2 - 1)) + 1) / 2
        errors.append((decoded.clamp(0, 1) - pictures).square().mean((1, 2, 3)))
    return float((-10 * torch.cat(errors).log10()).mean())


@torch.no_grad()
def _initialise(autoencoder: Any) -> Any:
    """Start as "mean colour of each 8 x 8 block" (18.9 dB) with quiet residual branches.

    From random weights a network this narrow and without norms needs an hour on two cores to get that far.
    """
    for module in autoencoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in autoencoder.modules():
        if isinstance(module, AutoencoderTinyBlock):
            branch: Any = module.conv
            last = branch[-1]
            last.weight.mul_(0.1)
            last.weight[:3] *= 0.1
    scale = 3.0  # block means have a standard deviation of about a third, latents of one
    encoder: list[Any] = [m for m in autoencoder.encoder.layers if isinstance(m, nn.Conv2d)]
    decoder: list[Any] = [m for m in autoencoder.decoder.layers if isinstance(m, nn.Conv2d)]
    for conv in encoder[:-1]:
        conv.weight[:3] = 0
        for channel in range(3):
            if conv.stride == (2, 2):
                conv.weight[channel, channel, 1:, 1:] = 0.25  # the mean of 2 x 2
            else:
                conv.weight[channel, channel, 1, 1] = 1
    encoder[-1].weight[:3] = 0
    for channel in range(3):
        encoder[-1].weight[channel, channel, 1, 1] = scale
        encoder[-1].bias[channel] = -0.5 * scale
    for index, conv in enumerate(decoder):
        if index == len(decoder) - 1:
            conv.weight *= 0.1
        conv.weight[:3] = 0.1 * conv.weight[:3] if index == len(decoder) - 1 else 0
        for channel in range(3):
            conv.weight[channel, channel, 1, 1] = 1 / scale if index == 0 else 1
            if index == 0:
                conv.bias[channel] = 0.5
    return autoencoder


def _crops(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Two random 64 px windows of each picture, on the latents' grid."""
    windows = []
    for picture in pictures:
        for row, column in (8 * torch.randint((128 - CROP) // 8 + 1, (2, 2), generator=generator)).tolist():
            windows.append(picture[:, row : row + CROP, column : column + CROP])
    return torch.stack(windows)


def _edges(error: Tensor) -> Tensor:
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return torch.cat([across.flatten(1), down.flatten(1)], 1)


def _psnr(error: Tensor) -> float:
    return float(-10 * error.detach().square().mean().log10())
