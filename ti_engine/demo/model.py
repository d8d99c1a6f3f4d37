"""The demo model's definition: numbers that both backends read, and its networks as diffusers builds them.

One weights file serves both backends. Its keys are `unet.*`, `text_encoder.*` and `vae.*` in diffusers' own layout; the
host's side (nodes/host/models/demo.py) maps them to its classes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .tokenizer import MAX_LENGTH, VOCABULARY

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel

WEIGHTS = Path(__file__).with_name("demo.safetensors")
LATENT_SIZE = 16  # 128 px / 8
GUIDANCE = 3.0  # classifier-free guidance that suits this model; 7.5 already hurts

UNET: dict[str, Any] = dict(
    sample_size=LATENT_SIZE,
    in_channels=4,
    out_channels=4,
    block_out_channels=(64, 96, 128),  # multiples of 32: the host's GroupNorm has 32 groups
    layers_per_block=1,
    cross_attention_dim=128,
    attention_head_dim=4,  # for SD1-like models this is the number of heads
    norm_num_groups=32,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
)
TEXT_ENCODER: dict[str, Any] = dict(
    vocab_size=len(VOCABULARY),
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=512,
    max_position_embeddings=MAX_LENGTH,
    hidden_act="quick_gelu",
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=1,
)
# A TAESD of 32 channels instead of 64 with fewer blocks: 0.28 M parameters, 8x down, 4 channels, no norm layers.
AUTOENCODER: dict[str, Any] = dict(
    latent_channels=4,
    encoder_block_out_channels=(32, 32, 32, 32),
    decoder_block_out_channels=(32, 32, 32, 32),
    num_encoder_blocks=(0, 0, 1, 3),
    num_decoder_blocks=(2, 2, 1, 0),
)
# SD1's noise schedule, with the velocity as target: at this size it learns colours and backgrounds sooner than epsilon.
SCHEDULER: dict[str, Any] = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction_type="v_prediction",
    clip_sample=False,
    set_alpha_to_one=True,
    timestep_spacing="trailing",
)


def vocabulary_hash() -> str:
    """SHA-256 of the vocabulary in its order; the weights carry it, because ids mean nothing without it."""
    return hashlib.sha256("\n".join(VOCABULARY).encode()).hexdigest()


def build_unet() -> UNet2DConditionModel:
    """The UNet with fresh weights, 5.6 M parameters."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**UNET)


def build_text_encoder() -> CLIPTextModel:
    """The text encoder with fresh weights, 0.4 M parameters."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**TEXT_ENCODER))


def build_autoencoder() -> AutoencoderTiny:
    """The autoencoder with fresh weights, 0.3 M parameters."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny(**AUTOENCODER)


def build_scheduler() -> DDIMScheduler:
    """SD1's schedule in diffusers' form."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(**SCHEDULER)


def load_networks(path: Path = WEIGHTS) -> tuple[UNet2DConditionModel, CLIPTextModel, AutoencoderTiny]:
    """UNet, text encoder and autoencoder with the weights in `path`, in float32 (the file holds float16).

    Raises FileNotFoundError or ValueError if it is not there or belongs to another definition.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"The demo model's weights ({path.name}) are missing; install the package again.")
    weights = load_file(path)
    networks = build_unet(), build_text_encoder(), build_autoencoder()
    for prefix, network in zip(("unet.", "text_encoder.", "vae."), networks, strict=True):
        own = {key.removeprefix(prefix): w.float() for key, w in weights.items() if key.startswith(prefix)}
        if prefix == "text_encoder.":  # transformers 4 has one level more than transformers 5
            deeper = "text_model." if any(key.startswith("text_model.") for key in network.state_dict()) else ""
            own = {deeper + key.removeprefix("text_model."): w for key, w in own.items()}
        try:
            network.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(f"{path.name} does not fit this version's {prefix[:-1]}.") from error
    return networks
