"""The host's transformers (DiT) in small, but for those in small_readers: a configuration and a CLIP for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import comfy.supported_models as families
import torch
from comfy import sdxl_clip, text_encoders
from comfy.ldm.chroma.model import ChromaParams
from comfy.ldm.flux.model import FluxParams
from small_encoders import WIDTH_G, WIDTH_L, WIDTH_LLM, WIDTH_T5, small_clip, spiece_model

NARROW = dict(axes_dim=[4, 6, 6], num_heads=2, hidden_size=32, mlp_ratio=2.0)


def _cascade() -> Any:
    config = families.Stable_Cascade_C(
        dict(
            stable_cascade_stage="c", c_cond=32, c_hidden=[32, 32], nhead=[2, 2], blocks=[[1, 1], [1, 1]],
            c_clip_text=WIDTH_G, c_clip_text_pooled=WIDTH_G, c_r=16,
        )
    )  # fmt: skip
    return config, small_clip(sdxl_clip.StableCascadeTokenizer, sdxl_clip.StableCascadeClipModel)


def _aura() -> Any:
    config = families.AuraFlow(
        dict(
            in_channels=4, out_channels=4, dim=32, n_layers=2, n_double_layers=1, n_heads=2, global_conddim=32,
            cond_seq_dim=WIDTH_T5, max_seq=64,
        )
    )  # fmt: skip
    return config, small_clip(text_encoders.aura_t5.AuraT5Tokenizer, text_encoders.aura_t5.AuraT5Model)


def _pixart(family: Any) -> Any:
    config = family(
        dict(
            image_model=family.unet_config["image_model"], hidden_size=48, depth=2, num_heads=2, patch_size=2,
            in_channels=4, caption_channels=WIDTH_T5, input_size=16, model_max_length=300, mlp_ratio=2.0,
            pe_interpolation=1, micro_condition=family is families.PixArtAlpha,
        )
    )  # fmt: skip
    return config, small_clip(text_encoders.pixart_t5.PixArtTokenizer, text_encoders.pixart_t5.PixArtT5XXL)


def _hunyuan_dit(family: Any) -> Any:
    first = family is families.HunyuanDiT1
    config = family(
        dict(
            image_model=family.unet_config["image_model"], hidden_size=32, depth=2, num_heads=2, mlp_ratio=2.0,
            text_states_dim=32, text_states_dim_t5=WIDTH_T5, size_cond=first, use_style_cond=first,
        )
    )  # fmt: skip
    te, pieces = text_encoders.hydit, {"mt5xl.spiece_model": spiece_model()}
    return config, small_clip(te.HyditTokenizer, te.HyditModel, 47020, **pieces)


def flux_like(family: Any, clip: Any, **more: Any) -> Any:
    newer = {"txt_ids_dims": []} if "txt_ids_dims" in {f.name for f in fields(FluxParams)} else {}
    config = family(
        {
            **dict(
                image_model="flux", in_channels=16, out_channels=16, vec_in_dim=None, depth=1, depth_single_blocks=1,
                theta=10000, patch_size=2, qkv_bias=True, guidance_embed=False, **NARROW, **newer,
            ),
            **more,
        }
    )  # fmt: skip
    return config, clip


def _chroma() -> Any:
    clip = small_clip(text_encoders.pixart_t5.PixArtTokenizer, text_encoders.pixart_t5.PixArtT5XXL)
    approximator = dict(in_dim=64, out_dim=32, hidden_dim=32, n_layers=1)
    more = dict(image_model="chroma", in_channels=64, out_channels=64, context_in_dim=WIDTH_T5, **approximator)
    config, clip = flux_like(families.Chroma, clip, **more, txt_ids_dims=[])
    known = {f.name for f in fields(ChromaParams)} | {"image_model"}
    config.unet_config = {name: value for name, value in config.unet_config.items() if name in known}
    return config, clip


def _hidream() -> Any:
    config = families.HiDream(
        dict(
            image_model="hidream", patch_size=2, in_channels=16, out_channels=16, num_layers=1, num_single_layers=1,
            attention_head_dim=16, num_attention_heads=2, caption_channels=[WIDTH_T5, WIDTH_LLM],
            text_emb_dim=WIDTH_L + WIDTH_G, num_routed_experts=4, num_activated_experts=2, axes_dims_rope=(4, 6, 6),
            llama_layers=[1, 2],
        )
    )  # fmt: skip
    return config, small_clip(text_encoders.hidream.HiDreamTokenizer, text_encoders.hidream.hidream_clip())


def _hunyuan_video(family: Any, tokenizer: Any, encoder: Any, **more: Any) -> Any:
    from comfy.ldm.hunyuan_video.model import HunyuanVideoParams

    known = {f.name for f in fields(HunyuanVideoParams)}
    plain = dict(
        in_channels=16, out_channels=16, vec_in_dim=None, context_in_dim=WIDTH_LLM, depth=1, depth_single_blocks=1,
        theta=256, patch_size=[1, 2, 2], qkv_bias=True, guidance_embed=False, byt5=False, meanflow=False,
        use_cond_type_embedding=False, vision_in_dim=None, meanflow_sum=False, **NARROW,
    )  # fmt: skip
    settings = {k: v for k, v in {**plain, **more}.items() if k in known}
    return family(dict(image_model="hunyuan_video", **settings)), small_clip(tokenizer, encoder)


def _hunyuan_video_1() -> Any:
    te = text_encoders.hunyuan_video
    more = dict(vec_in_dim=WIDTH_L, guidance_embed=True)
    return _hunyuan_video(families.HunyuanVideo, te.HunyuanVideoTokenizer, te.hunyuan_video_clip(), **more)


def _hunyuan_video_15() -> Any:
    te = text_encoders.hunyuan_image
    more = dict(
        in_channels=65, out_channels=32, patch_size=[1, 1, 1], byt5=False, vision_in_dim=1152, meanflow_sum=True,
        use_cond_type_embedding=True,
    )  # fmt: skip
    tokenizer = text_encoders.hunyuan_video.HunyuanVideo15Tokenizer
    return _hunyuan_video(families.HunyuanVideo15, tokenizer, te.te(byt5=False), **more)


def hunyuan_image(**wide: Any) -> Any:
    te = text_encoders.hunyuan_image
    more = dict(in_channels=64, out_channels=64, patch_size=[1, 1], axes_dim=[8, 8]) | wide
    return _hunyuan_video(families.HunyuanImage21, te.HunyuanImageTokenizer, te.te(byt5=True), **more)


def wan(
    family: Any = families.WAN21_T2V, channels: int = 16, more_inputs: int = 0, text_width: int = WIDTH_T5, **more: Any
) -> Any:
    plain = dict(
        image_model="wan2.1", model_type="t2v", dim=32, ffn_dim=48, freq_dim=32, text_dim=text_width, num_heads=2,
        num_layers=1, in_dim=channels + more_inputs, out_dim=channels,
    )  # fmt: skip
    te = text_encoders.wan
    clip = small_clip(te.WanT5Tokenizer, te.WanT5Model, 600, t5_width=text_width, spiece_model=spiece_model())
    return family({**plain, **more}), clip


def _ltxv() -> Any:
    config = families.LTXV(
        dict(
            image_model="ltxv", in_channels=128, cross_attention_dim=32, attention_head_dim=16, num_attention_heads=2,
            caption_channels=WIDTH_T5, num_layers=1,
        )
    )  # fmt: skip
    return config, small_clip(text_encoders.lt.LTXVT5Tokenizer, text_encoders.lt.ltxv_te())


def _mochi() -> Any:
    config = families.GenmoMochi(
        dict(
            image_model="mochi_preview", depth=2, patch_size=2, num_heads=2, hidden_size_x=32, hidden_size_y=24,
            mlp_ratio_x=384.0, mlp_ratio_y=2.0, learn_sigma=False, in_channels=12, qk_norm=True, qkv_bias=False,
            out_bias=True, attn_drop=0.0, patch_embed_bias=True, posenc_preserve_area=True, timestep_mlp_bias=True,
            attend_to_padding=False, timestep_scale=1000.0, use_t5=True, t5_feat_dim=WIDTH_T5, t5_token_length=256,
            rope_theta=10000.0,
        )
    )  # fmt: skip
    return config, small_clip(text_encoders.genmo.MochiT5Tokenizer, text_encoders.genmo.mochi_te())


def _cosmos() -> Any:
    config = families.CosmosT2V(
        dict(
            image_model="cosmos", max_img_h=240, max_img_w=240, max_frames=128, in_channels=16, out_channels=16,
            patch_spatial=2, patch_temporal=1, model_channels=32, block_config="FA-CA-MLP", concat_padding_mask=True,
            pos_emb_cls="rope3d", pos_emb_learnable=False, pos_emb_interpolation="crop", block_x_format="THWBD",
            affline_emb_norm=True, use_adaln_lora=True, adaln_lora_dim=8, num_blocks=1, num_heads=2,
            crossattn_emb_channels=WIDTH_T5, extra_per_block_abs_pos_emb=True,
            extra_per_block_abs_pos_emb_type="learnable",
        )
    )  # fmt: skip
    return config, small_clip(text_encoders.cosmos.CosmosT5Tokenizer, text_encoders.cosmos.te())


PREDICT2 = dict(
    max_img_h=240, max_img_w=240, max_frames=128, in_channels=16, out_channels=16, patch_spatial=2, patch_temporal=1,
    model_channels=32, concat_padding_mask=True, pos_emb_cls="rope3d", pos_emb_learnable=True,
    pos_emb_interpolation="crop", use_adaln_lora=True, adaln_lora_dim=8, num_blocks=1, num_heads=2, mlp_ratio=2.0,
)  # fmt: skip


def _predict2() -> Any:
    own = dict(image_model="cosmos_predict2", crossattn_emb_channels=WIDTH_T5)
    clip = small_clip(text_encoders.cosmos.CosmosT5Tokenizer, text_encoders.cosmos.te())
    return families.CosmosT2IPredict2({**PREDICT2, **own}), clip


def _radiance() -> Any:
    clip = small_clip(text_encoders.pixart_t5.PixArtTokenizer, text_encoders.pixart_t5.PixArtT5XXL)
    more = dict(
        image_model="chroma_radiance", in_channels=3, out_channels=3, context_in_dim=WIDTH_T5, patch_size=4, in_dim=64,
        out_dim=32, hidden_dim=32, n_layers=1, nerf_hidden_size=16, nerf_mlp_ratio=2, nerf_depth=1, nerf_max_freqs=2,
        nerf_tile_size=0, nerf_final_head_type="conv", nerf_embedder_dtype=torch.float32, use_x0=False,
        use_sequential_txt_ids=False, txt_ids_dims=[],
    )  # fmt: skip
    from comfy.ldm.chroma_radiance.model import ChromaRadianceParams

    config, clip = flux_like(families.ChromaRadiance, clip, **more)
    known = {f.name for f in fields(ChromaRadianceParams)} | {"image_model"}
    config.unet_config = {name: value for name, value in config.unet_config.items() if name in known}
    return config, clip


TRANSFORMERS: dict[str, Callable[[], Any]] = {
    "Stable Cascade C": _cascade,
    "AuraFlow": _aura,
    "PixArt alpha": lambda: _pixart(families.PixArtAlpha),
    "PixArt sigma": lambda: _pixart(families.PixArtSigma),
    "HunyuanDiT 1.2": lambda: _hunyuan_dit(families.HunyuanDiT),
    "HunyuanDiT 1.1": lambda: _hunyuan_dit(families.HunyuanDiT1),
    "Chroma": _chroma,
    "HiDream": _hidream,
    "HunyuanImage 2.1": hunyuan_image,
    "HunyuanVideo": _hunyuan_video_1,
    "HunyuanVideo 1.5": _hunyuan_video_15,
    "Wan 2.1": wan,
    "Wan 2.2 5B": lambda: wan(families.WAN22_T2V, 48),
    "Wan 2.1, causal": lambda: wan(families.WAN21_CausalAR_T2V),
    "LTX-Video": _ltxv,
    "Mochi": _mochi,
    "Cosmos": _cosmos,
    "Cosmos-Predict2": _predict2,
    "Chroma Radiance": _radiance,
}
