"""What a file is that holds tensors but no word, told by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable

_XTI = re.compile(r"(IN|OUT)\d\d|MID")
_KINDS = {
    r"320|640|768|1024|1280": "a hypernetwork",
    r"layer_structure": "a hypernetwork",
    r"(optimizer_state_dict|param_groups)(\..*)?": "the state of an optimizer (what A1111 writes as .optim)",
    r"latent_tensor|latent_format_version_\d": "a ComfyUI latent",
    r".*(lora_|\.lora|hada_w|lokr_w|oft_blocks|glora|dora_scale|unet:\d+:|text_encoder:\d+:).*": "a LoRA without words",
    r"(.*\.)?(control_model|controlnet_\w+|input_hint_block)\..*": "a ControlNet",
    r"(image_proj|ip_adapter|image_proj_model)(\..*)?": "an IP-Adapter",
    r"(negative_)?(pooled_)?prompt_embeds?(_mask)?|pooled_output|pooler_output|(last_|encoder_)?hidden_states?": (
        "the output of a text encoder (a conditioning)"
    ),
    r".*motion_modules\..*": "a motion module (AnimateDiff)",
    r"(.*\.)?(model\.diffusion_model|cond_stage_model|conditioner)\..*": "a checkpoint (a whole model)",
    r"(unet|vae|transformer|text_encoder(_\d)?)\..*": "a checkpoint (a whole model or a part of one)",
    r"(.*\.)?(vision_model|visual)\..*": "an image encoder",
    r"(.*\.)?(text_model|token_embedding|embed_tokens|shared|transformer\.resblocks)\..*": "a text encoder",
    r"(encoder|model)\.(block|layers)\..*": "a text encoder",
    r"(first_stage_model\.)?((encoder|decoder)\.(conv|down|up|mid|norm).*|(post_)?quant_conv\..*)": "a VAE",
    r"(.*\.)?((down|up|mid|input|output|middle|double|single|joint|transformer)_blocks?|time_embed\w*)\..*": (
        "a diffusion model (UNet or transformer)"
    ),
    r"params_ema.*|(model\.|body\.)\d+\..*|conv_(first|last)\..*": "an upscaler",
    r"state_dict(\..*)?|global_step|pytorch-lightning_version": "a checkpoint of a training",
    r"(.*\.)?(weight|bias)": "a part of a network",
}

# No words where no text encoder has the width.
_PLAIN_KINDS = {
    r"images?|pixels?|pixel_values|samples?|latents?|masks?|noise": "a picture, a latent or a mask",
    r"mean|std|var|min|max|scale|shift|running_\w+": "statistics",
}


def is_per_layer(keys: Iterable[str]) -> bool:
    """Whether these are vectors per layer of the UNet (kohya's XTI) and not per text encoder."""
    return sum(_XTI.fullmatch(key) is not None for key in keys) > 1


def looks_like_parameter(key: str) -> bool:
    """Whether `key` is the name of a network's parameter rather than a word. Words may contain dots."""
    return any(re.fullmatch(pattern, key) for pattern in _KINDS)


def looks_like_data(key: str) -> bool:
    """Whether `key` is what pictures or statistics are called. A word may be called so too (a dog named Max)."""
    return any(re.fullmatch(pattern, key) for pattern in _PLAIN_KINDS)


def kind_by_keys(keys: Iterable[str]) -> str | None:
    """What holds tensors of these names, such as "a LoRA without words", or None if it is not known."""
    keys, kinds = list(keys), _KINDS | _PLAIN_KINDS
    return next((kind for pattern, kind in kinds.items() if any(re.fullmatch(pattern, key) for key in keys)), None)
