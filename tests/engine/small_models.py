"""Diffusers' and transformers' own classes of SD1's shape, a few thousand random weights each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from ti_engine.demo.tokenizer import VOCABULARY, DemoTokenizer
from ti_engine.standalone import DiffusersBackend, LooseParts

WIDTH = 16


@dataclass
class Parts:
    """The modules behind a backend, for references that are written out."""

    unet: Any
    text_encoder: Any
    autoencoder: Any
    scheduler: Any

    def backend(self) -> DiffusersBackend:
        parts = LooseParts(self.unet, self.text_encoder, DemoTokenizer(), self.autoencoder, self.scheduler)
        return DiffusersBackend(parts)


def build(prediction: str = "epsilon", dtype: torch.dtype = torch.float64, tiny: bool = False) -> Parts:
    """All parts, for the demo's tokenizer; `tiny`: with an autoencoder that has no distribution."""
    torch.manual_seed(0)
    parts = Parts(
        small_unet(),
        small_text_encoder(),
        small_autoencoder(tiny),
        small_scheduler(DDIMScheduler, prediction, clip_sample=False),
    )
    for module in (parts.unet, parts.text_encoder, parts.autoencoder):
        module.to(dtype=dtype)
    return parts


def small_unet(text_width: int = WIDTH) -> Any:
    settings: dict[str, Any] = dict(
        sample_size=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=text_width,
        attention_head_dim=2,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    return UNet2DConditionModel(**settings)


def small_text_encoder(vocab_size: int = len(VOCABULARY), length: int = 32, start: int = 0, end: int = 1) -> Any:
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=length,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )
    return CLIPTextModel(config)


def small_autoencoder(tiny: bool = False) -> Any:
    channels: tuple[int, ...] = (8, 8, 8, 8)
    if tiny:
        blocks = (1, 1, 1, 1)
        return AutoencoderTiny(
            encoder_block_out_channels=channels,
            decoder_block_out_channels=channels,
            num_encoder_blocks=blocks,
            num_decoder_blocks=blocks,
        )
    settings: dict[str, Any] = dict(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
    )
    return AutoencoderKL(**settings)


def small_scheduler(kind: Any, prediction: str = "epsilon", **more: Any) -> Any:
    """SD1's noise levels in a scheduler of diffusers."""
    return kind(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction, **more)


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    """Normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
