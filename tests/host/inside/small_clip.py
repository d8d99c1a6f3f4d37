"""A CLIP with SD1's own tokenizer and width, one layer and random weights; and what the host's own node makes of it."""

from __future__ import annotations

from pathlib import Path

import comfy.sd
import torch
from comfy.sd1_clip import SD1ClipModel, SD1Tokenizer, SDClipModel
from comfy.supported_models_base import ClipTarget

import nodes as host_nodes


class _SmallEncoder(SDClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None, **_):
        config = dict(
            hidden_size=768, num_hidden_layers=1, num_attention_heads=12, intermediate_size=64, hidden_act="quick_gelu",
            max_position_embeddings=77, eos_token_id=49407,
        )  # fmt: skip
        super().__init__(device=device, dtype=dtype, textmodel_json_config=config, return_projected_pooled=False)


class _SmallClip(SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None, **_):
        super().__init__(device=device, dtype=dtype, clip_model=_SmallEncoder)


def small_clip(folder: Path):
    """folder: where `embedding:name` looks for files."""
    with torch.inference_mode():
        clip = comfy.sd.CLIP(ClipTarget(SD1Tokenizer, _SmallClip), embedding_directory=[str(folder)])
        generator = torch.Generator().manual_seed(0)
        for weight in clip.cond_stage_model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.02)
    return clip


def core(clip, text):
    with torch.inference_mode():
        (conditioning,) = host_nodes.CLIPTextEncode().encode(clip, text)
    return conditioning


def same(a, b):
    (cond_a, extra_a), (cond_b, extra_b) = a[0], b[0]
    assert extra_a.keys() == extra_b.keys()
    return torch.equal(cond_a, cond_b) and all(torch.equal(extra_a[k], extra_b[k]) for k in extra_a)
