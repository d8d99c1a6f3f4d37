"""Published models by their shapes in the host's own classes: as large as they are, or smaller (small_size.py)."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from host import Models, fill
from small_size import FP8, HEAD, Size, encoders_of

CPU, META = torch.device("cpu"), torch.device("meta")


class Published(NamedTuple):
    """resolution: in pixels, of the pictures it was made for. small: the size at which a step takes seconds on one
    core, and the pixels that go with it."""

    resolution: int
    make: Callable[[Size], Models]
    small: tuple[float, float, int] | None = None


def model(
    size: Size, family: str, module: str, tokenizer: str, encoder: Callable[[Any], Any], /, **settings: Any
) -> Models:
    """A model of the host's class `family`, and a CLIP of what `module` has."""
    families, memory = (importlib.import_module(f"comfy.{name}") for name in ("supported_models", "model_management"))
    config = getattr(families, family)(settings)
    config.set_inference_dtype(size.dtype, torch.bfloat16 if size.dtype is FP8 else None)
    base = config.get_model({}, "", device=size.device if size.filled else META).eval()
    base.device = size.device
    offload = memory.unet_offload_device() if size.device.type == "cuda" else CPU
    patcher = importlib.import_module("comfy.model_patcher").ModelPatcher(base, size.device, offload)
    encoders = importlib.import_module(module)
    target = importlib.import_module("comfy.supported_models_base").ClipTarget
    options: dict[str, Any] = {"initial_device": size.device} | ({} if size.filled else {"dtype": size.dtype})
    with encoders_of(size):
        parts = target(getattr(encoders, tokenizer), encoder(encoders))
        clip = importlib.import_module("comfy.sd").CLIP(parts, model_options=options)
    if size.filled:
        for network in (base.diffusion_model, clip.cond_stage_model):
            fill(network)
    return Models(patcher, clip)


UNET = dict(
    image_size=32, in_channels=4, out_channels=4, use_spatial_transformer=True, use_temporal_attention=False,
    legacy=False,
)  # fmt: skip


def sd15(size: Size) -> Models:
    return model(
        size, "SD15", "comfy.sd1_clip", "SD1Tokenizer", lambda te: te.SD1ClipModel,
        **UNET, model_channels=size.wide(320, 32), num_res_blocks=[2] * 4, channel_mult=[1, 2, 4, 4],
        transformer_depth=[1] * 6 + [0] * 2, transformer_depth_output=[1] * 9 + [0] * 3, transformer_depth_middle=1,
        context_dim=size.wide(768, HEAD), use_linear_in_transformer=False, adm_in_channels=None, num_heads=size.wide(8),
        num_head_channels=-1,
    )  # fmt: skip


def sdxl(size: Size) -> Models:
    two, ten, width_g = size.deep(2), size.deep(10), size.wide(1280, HEAD)
    return model(
        size, "SDXL", "comfy.sdxl_clip", "SDXLTokenizer", lambda te: te.SDXLClipModel,
        **UNET, model_channels=size.wide(320, 32), num_res_blocks=[2] * 3, channel_mult=[1, 2, 4],
        transformer_depth=[0, 0, two, two, ten, ten], transformer_depth_output=[0] * 3 + [two] * 3 + [ten] * 3,
        transformer_depth_middle=ten, context_dim=size.wide(768, HEAD) + width_g, use_linear_in_transformer=True,
        adm_in_channels=width_g + 6 * 256, num_classes="sequential", num_heads=-1, num_head_channels=64,
    )  # fmt: skip


def sd35(depth: int, size: Size) -> Models:
    """The host makes its width of its depth, and fills CLIP's text up to the true width of T5."""
    depth = size.wide(depth)
    size = dataclasses.replace(size, t5_width=False)
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 64 * depth}}
    return model(
        size, "SD3", "comfy.text_encoders.sd3_clip", "SD3Tokenizer",
        lambda te: te.sd3_clip(clip_l=True, clip_g=True, t5=True, dtype_t5=size.t5_dtype),
        in_channels=16, patch_size=2, out_channels=16, depth=depth, input_size=None,
        adm_in_channels=size.wide(768, HEAD) + size.wide(1280, HEAD), num_patches=36864, pos_embed_max_size=192,
        pos_embed_scaling_factor=None, context_embedder_config=embedder, qk_norm="rms", x_block_self_attn_layers=[],
    )  # fmt: skip


def flux(size: Size) -> Models:
    params = importlib.import_module("comfy.ldm.flux.model").FluxParams
    known = {field.name for field in dataclasses.fields(params)}
    newer: dict[str, Any] = {"txt_ids_dims": []} if "txt_ids_dims" in known else {}
    width = size.wide(3072, 128)
    return model(
        size, "Flux", "comfy.text_encoders.flux", "FluxTokenizer", lambda te: te.flux_clip(dtype_t5=size.t5_dtype),
        image_model="flux", in_channels=16, out_channels=16, vec_in_dim=size.wide(768, HEAD),
        context_in_dim=size.wide(4096, HEAD), hidden_size=width, mlp_ratio=4.0, num_heads=width // 128,
        depth=size.deep(19), depth_single_blocks=size.deep(38), axes_dim=[16, 56, 56], theta=10000, patch_size=2,
        qkv_bias=True, guidance_embed=True, **newer,
    )  # fmt: skip


def klein(tokenizer: str, encoder: str, context: int, width: int, double: int, single: int, size: Size) -> Models:
    width = size.wide(width, 128)
    return model(
        size, "Flux2", "comfy.text_encoders.flux", tokenizer, lambda te: te.klein_te(model_type=encoder),
        image_model="flux2", in_channels=128, out_channels=128, vec_in_dim=None,
        context_in_dim=3 * size.wide(context, HEAD), hidden_size=width, mlp_ratio=3.0, num_heads=width // 128,
        depth=size.deep(double), depth_single_blocks=size.deep(single), axes_dim=[32, 32, 32, 32], theta=2000,
        patch_size=1, qkv_bias=False, guidance_embed=False, global_modulation=True, mlp_silu_act=True, ops_bias=False,
        default_ref_method="index", ref_index_scale=10.0, txt_ids_dims=[3],
    )  # fmt: skip


klein_4b = partial(klein, "KleinTokenizer", "qwen3_4b", 2560, 3072, 5, 20)
klein_9b = partial(klein, "KleinTokenizer8B", "qwen3_8b", 4096, 4096, 8, 24)


def z_image(size: Size) -> Models:
    width = size.wide(3840, 128)
    return model(
        size, "ZImage", "comfy.text_encoders.z_image", "ZImageTokenizer", lambda te: te.te(),
        image_model="lumina2", patch_size=2, in_channels=16, dim=width, cap_feat_dim=size.wide(2560, HEAD),
        n_layers=size.deep(30), n_refiner_layers=size.deep(2), qk_norm=True, n_heads=width // 128,
        n_kv_heads=width // 128, axes_dims=[32, 48, 48], axes_lens=[1536, 512, 512], rope_theta=256.0,
        ffn_dim_multiplier=8 / 3, z_image_modulation=True, time_scale=1000.0, pad_tokens_multiple=32,
    )  # fmt: skip


def lumina2(size: Size) -> Models:
    width = size.wide(2304, 96)
    return model(
        size, "Lumina2", "comfy.text_encoders.lumina2", "LuminaTokenizer", lambda te: te.te(),
        image_model="lumina2", patch_size=2, in_channels=16, dim=width, cap_feat_dim=size.wide(2304, HEAD),
        n_layers=size.deep(26), n_refiner_layers=size.deep(2), qk_norm=True, n_heads=width // 96,
        n_kv_heads=size.wide(8), axes_dims=[32, 32, 32], axes_lens=[300, 512, 512], rope_theta=10000.0,
        ffn_dim_multiplier=4.0,
    )  # fmt: skip


def qwen_image(size: Size) -> Models:
    return model(
        size, "QwenImage", "comfy.text_encoders.qwen_image", "QwenImageTokenizer", lambda te: te.te(),
        image_model="qwen_image", in_channels=64, num_layers=size.deep(60), num_attention_heads=size.wide(24),
        joint_attention_dim=size.wide(3584, HEAD),
    )  # fmt: skip


def hunyuan_video_15(size: Size) -> Models:
    encoders = importlib.import_module("comfy.text_encoders.hunyuan_image")
    width = size.wide(2048, 128)
    return model(
        size, "HunyuanVideo15", "comfy.text_encoders.hunyuan_video", "HunyuanVideo15Tokenizer", lambda _: encoders.te(),
        image_model="hunyuan_video", in_channels=65, out_channels=32, patch_size=[1, 1, 1], hidden_size=width,
        num_heads=width // 128, depth=size.deep(54), depth_single_blocks=0, mlp_ratio=4.0, axes_dim=[16, 56, 56],
        theta=256, qkv_bias=True, vec_in_dim=None, context_in_dim=size.wide(3584, HEAD), guidance_embed=False,
        byt5=True, vision_in_dim=1152, meanflow=False, meanflow_sum=True, use_cond_type_embedding=True,
    )  # fmt: skip


def kandinsky(family: str, tokenizer: str, width: int, channels: int, blocks: int, head: int, size: Size) -> Models:
    width = size.wide(width, head)
    axes = (head // 4, head * 3 // 8, head * 3 // 8)
    return model(
        size, family, "comfy.text_encoders.kandinsky5", tokenizer, lambda te: te.te(),
        image_model="kandinsky5", time_dim=512, model_dim=width, ff_dim=4 * width, visual_embed_dim=channels,
        num_text_blocks=size.deep(2), num_visual_blocks=size.deep(blocks), axes_dims=axes,
        **({} if head == 64 else {"rope_scale_factor": (1.0, 1.0, 1.0)}),
    )  # fmt: skip


kandinsky_film = partial(kandinsky, "Kandinsky5", "Kandinsky5Tokenizer", 1792, 132, 32, 64)
kandinsky_image = partial(kandinsky, "Kandinsky5Image", "Kandinsky5TokenizerImage", 2560, 64, 50, 128)


PUBLISHED: dict[str, Published] = {
    "SD1.5": Published(512, sd15, (10 / 3, 1, 320)),
    "SDXL": Published(1024, sdxl, (5, 1, 432)),
    "SD3.5 medium": Published(1024, partial(sd35, 24), (4, 4, 560)),
    "SD3.5 large": Published(1024, partial(sd35, 38)),
    "Flux dev": Published(1024, flux, (6, 4, 352)),
    "Flux.2 Klein 4B": Published(1024, klein_4b, (8, 9 / 8, 272)),
    "Flux.2 Klein 9B": Published(1024, klein_9b),
    "Lumina 2": Published(1024, lumina2),
    "Z-Image": Published(1024, z_image, (6, 4, 416)),
    "Qwen-Image": Published(1024, qwen_image, (6, 14 / 3, 416)),
    "Qwen-Image, small": Published(512, qwen_image),
    "Z-Image, small": Published(512, z_image),
    "HunyuanVideo 1.5": Published(512, hunyuan_video_15),
    "Kandinsky 5 lite": Published(512, kandinsky_film),
    "Kandinsky 5 image lite": Published(1024, kandinsky_image),
}
