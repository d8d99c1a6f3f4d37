"""The host's families of transformers (DiT) in small: name -> its configuration, its CLIP and its latents' channels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any
from unittest.mock import patch

import comfy.supported_models as families
import torch
from comfy import sdxl_clip, text_encoders
from comfy.ldm.chroma.model import ChromaParams
from comfy.ldm.flux.model import FluxParams
from small_encoders import WIDTH_G, WIDTH_L, WIDTH_LLM, WIDTH_T5, small_clip, spiece_model, tekken_model

_HEADS = dict(axes_dim=[4, 6, 6], num_heads=2, hidden_size=32, mlp_ratio=2.0)


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
    clip = small_clip(
        text_encoders.hydit.HyditTokenizer, text_encoders.hydit.HyditModel, 47020, **{"mt5xl.spiece_model": _spiece()}
    )
    return config, clip


def _flux_like(family: Any, clip: Any, **more: Any) -> Any:
    newer = {"txt_ids_dims": []} if "txt_ids_dims" in {f.name for f in fields(FluxParams)} else {}
    config = family(
        {
            **dict(
                image_model="flux", in_channels=16, out_channels=16, vec_in_dim=None, depth=1, depth_single_blocks=1,
                theta=10000, patch_size=2, qkv_bias=True, guidance_embed=False, **_HEADS, **newer,
            ),
            **more,
        }
    )  # fmt: skip
    return config, clip


def _chroma() -> Any:
    clip = small_clip(text_encoders.pixart_t5.PixArtTokenizer, text_encoders.pixart_t5.PixArtT5XXL)
    approximator = dict(in_dim=64, out_dim=32, hidden_dim=32, n_layers=1)
    more = dict(image_model="chroma", in_channels=64, out_channels=64, context_in_dim=WIDTH_T5, **approximator)
    config, clip = _flux_like(families.Chroma, clip, **more, txt_ids_dims=[])
    known = {f.name for f in fields(ChromaParams)} | {"image_model"}
    config.unet_config = {name: value for name, value in config.unet_config.items() if name in known}
    return config, clip


def _flux2(tokenizer: Any, encoder: Any, **data: Any) -> Any:
    more = dict(
        image_model="flux2", in_channels=128, out_channels=128, context_in_dim=3 * WIDTH_LLM, patch_size=1,
        axes_dim=[4, 4, 4, 4], theta=2000, global_modulation=True, mlp_silu_act=True, qkv_bias=False, ops_bias=False,
        default_ref_method="index", ref_index_scale=10.0, txt_ids_dims=[3],
    )  # fmt: skip
    return _flux_like(families.Flux2, small_clip(tokenizer, encoder, **data), **more)


def _longcat() -> Any:
    clip = small_clip(text_encoders.longcat_image.LongCatImageTokenizer, text_encoders.longcat_image.te())
    return _flux_like(families.LongCatImage, clip, context_in_dim=WIDTH_LLM, txt_ids_dims=[1, 2])


def _ovis() -> Any:
    clip = small_clip(text_encoders.ovis.OvisTokenizer, text_encoders.ovis.te())
    more = dict(context_in_dim=WIDTH_LLM, txt_ids_dims=[1, 2], yak_mlp=True, txt_norm=True)
    return _flux_like(families.FluxSchnell, clip, **more)


def _hidream() -> Any:
    config = families.HiDream(
        dict(
            image_model="hidream", patch_size=2, in_channels=16, out_channels=16, num_layers=1, num_single_layers=1,
            attention_head_dim=16, num_attention_heads=2, caption_channels=[WIDTH_T5, WIDTH_LLM],
            text_emb_dim=WIDTH_L + WIDTH_G, num_routed_experts=2, num_activated_experts=1, axes_dims_rope=(4, 6, 6),
            llama_layers=[1, 2],
        )
    )  # fmt: skip
    return config, small_clip(text_encoders.hidream.HiDreamTokenizer, text_encoders.hidream.hidream_clip())


def _lumina(
    tokenizer: Any, encoder: Any, dim: int = 32, family: Any = None, image: str = "lumina2", **more: Any
) -> Any:
    data = {"spiece_model": _spiece()} if "lumina2" in tokenizer.__module__ else {}
    clip = small_clip(tokenizer, encoder, 600 if data else None, **data)
    plain = dict(
        image_model=image, patch_size=2, in_channels=16, dim=dim, n_layers=1, n_refiner_layers=1, n_heads=dim // 16,
        n_kv_heads=dim // 16, multiple_of=16, ffn_dim_multiplier=1.0, qk_norm=True, cap_feat_dim=WIDTH_LLM,
        axes_dims=[4, 6, 6], axes_lens=[300, 512, 512],
    )  # fmt: skip
    config = (family or families.Lumina2)({**plain, **more})
    return config, clip


def _z_image() -> Any:
    more = dict(z_image_modulation=True, time_scale=1000.0, rope_theta=256.0, pad_tokens_multiple=32)
    z = text_encoders.z_image
    return _lumina(z.ZImageTokenizer, z.te(), dim=256, family=families.ZImage, **more)


def _qwen_image() -> Any:
    config = families.QwenImage(
        dict(
            image_model="qwen_image", in_channels=64, out_channels=16, num_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=WIDTH_LLM, axes_dims_rope=(4, 6, 6),
        )
    )  # fmt: skip
    return config, small_clip(text_encoders.qwen_image.QwenImageTokenizer, text_encoders.qwen_image.te())


def _omnigen2() -> Any:
    config = families.Omnigen2(
        dict(
            image_model="omnigen2", in_channels=16, hidden_size=32, num_layers=1, num_refiner_layers=1,
            num_attention_heads=2, num_kv_heads=1, multiple_of=16, axes_dim_rope=(4, 6, 6), text_feat_dim=WIDTH_LLM,
            timestep_scale=1000.0,
        )
    )  # fmt: skip
    return config, small_clip(text_encoders.omnigen2.Omnigen2Tokenizer, text_encoders.omnigen2.te())


def _hunyuan_video(family: Any, tokenizer: Any, encoder: Any, **more: Any) -> Any:
    from comfy.ldm.hunyuan_video.model import HunyuanVideoParams

    known = {f.name for f in fields(HunyuanVideoParams)}
    plain = dict(
        in_channels=16, out_channels=16, vec_in_dim=None, context_in_dim=WIDTH_LLM, depth=1, depth_single_blocks=1,
        theta=256, patch_size=[1, 2, 2], qkv_bias=True, guidance_embed=False, byt5=False, meanflow=False,
        use_cond_type_embedding=False, vision_in_dim=None, meanflow_sum=False, **_HEADS,
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


def _hunyuan_image() -> Any:
    te = text_encoders.hunyuan_image
    more = dict(in_channels=64, out_channels=64, patch_size=[1, 1], axes_dim=[8, 8])
    return _hunyuan_video(families.HunyuanImage21, te.HunyuanImageTokenizer, te.te(byt5=False), **more)


def wan(family: Any = families.WAN21_T2V, channels: int = 16, more_inputs: int = 0) -> Any:
    config = family(
        dict(
            image_model="wan2.1", model_type="t2v", dim=32, ffn_dim=48, freq_dim=32, text_dim=WIDTH_T5, num_heads=2,
            num_layers=1, in_dim=channels + more_inputs, out_dim=channels,
        )
    )  # fmt: skip
    te = text_encoders.wan
    return config, small_clip(te.WanT5Tokenizer, te.WanT5Model, 600, spiece_model=_spiece())


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


_PREDICT2 = dict(
    max_img_h=240, max_img_w=240, max_frames=128, in_channels=16, out_channels=16, patch_spatial=2, patch_temporal=1,
    model_channels=32, concat_padding_mask=True, pos_emb_cls="rope3d", pos_emb_learnable=True,
    pos_emb_interpolation="crop", use_adaln_lora=True, adaln_lora_dim=8, num_blocks=1, num_heads=2, mlp_ratio=2.0,
)  # fmt: skip


def _predict2() -> Any:
    own = dict(image_model="cosmos_predict2", crossattn_emb_channels=WIDTH_T5)
    clip = small_clip(text_encoders.cosmos.CosmosT5Tokenizer, text_encoders.cosmos.te())
    return families.CosmosT2IPredict2({**_PREDICT2, **own}), clip


def _anima() -> Any:
    import comfy.ldm.anima.model as anima

    if not isinstance(anima.LLMAdapter, functools.partial):  # its widths are written into the host's code
        anima.LLMAdapter = functools.partial(
            anima.LLMAdapter, source_dim=WIDTH_LLM, target_dim=32, model_dim=32, num_layers=1, num_heads=2
        )
    own = dict(image_model="anima", crossattn_emb_channels=32)
    clip = small_clip(text_encoders.anima.AnimaTokenizer, text_encoders.anima.te())
    return families.Anima({**_PREDICT2, **own}), clip


def _kandinsky(family: Any, tokenizer: str, visual: int) -> Any:
    config = family(
        dict(
            image_model="kandinsky5", model_dim=32, ff_dim=48, time_dim=32, visual_embed_dim=visual,
            in_text_dim=WIDTH_LLM, in_text_dim2=WIDTH_L, num_text_blocks=1, num_visual_blocks=1, axes_dims=(4, 6, 6),
        )
    )  # fmt: skip
    te = text_encoders.kandinsky5
    return config, small_clip(getattr(te, tokenizer), te.te())


def _ernie() -> Any:
    config = families.ErnieImage(
        dict(
            image_model="ernie", hidden_size=32, num_attention_heads=2, num_layers=1, ffn_hidden_size=48,
            text_in_dim=WIDTH_LLM, rope_axes_dim=(4, 6, 6),
        )
    )  # fmt: skip
    te = text_encoders.ernie
    return config, small_clip(te.ErnieTokenizer, te.te(), tekken_model=tekken_model())


def _radiance() -> Any:
    clip = small_clip(text_encoders.pixart_t5.PixArtTokenizer, text_encoders.pixart_t5.PixArtT5XXL)
    more = dict(
        image_model="chroma_radiance", in_channels=3, out_channels=3, context_in_dim=WIDTH_T5, patch_size=4, in_dim=64,
        out_dim=32, hidden_dim=32, n_layers=1, nerf_hidden_size=16, nerf_mlp_ratio=2, nerf_depth=1, nerf_max_freqs=2,
        nerf_tile_size=0, nerf_final_head_type="conv", nerf_embedder_dtype=torch.float32, use_x0=False,
        use_sequential_txt_ids=False, txt_ids_dims=[],
    )  # fmt: skip
    from comfy.ldm.chroma_radiance.model import ChromaRadianceParams

    config, clip = _flux_like(families.ChromaRadiance, clip, **more)
    known = {f.name for f in fields(ChromaRadianceParams)} | {"image_model"}
    config.unet_config = {name: value for name, value in config.unet_config.items() if name in known}
    return config, clip


def _z_image_pixels() -> Any:
    more = dict(z_image_modulation=True, time_scale=1000.0, rope_theta=256.0, pad_tokens_multiple=32)
    more |= dict(patch_size=4, in_channels=3, decoder_hidden_size=32, decoder_num_res_blocks=1, decoder_max_freqs=2)
    z = text_encoders.z_image
    return _lumina(z.ZImageTokenizer, z.te(), dim=256, family=families.ZImagePixelSpace, image="zimage_pixel", **more)


def _newbie() -> Any:
    te = text_encoders.newbie
    pieces = {"gemma_spiece_model": _spiece(), "jina_spiece_model": _spiece()}
    config, _ = _lumina(text_encoders.lumina2.LuminaTokenizer, text_encoders.lumina2.te(), clip_text_dim=32)
    with patch.object(text_encoders.jina_clip_2, "XLMRobertaConfig", _narrow_jina()):
        return config, small_clip(te.NewBieTokenizer, te.te(), 600, **pieces)


def _narrow_jina() -> Any:
    config = text_encoders.jina_clip_2.XLMRobertaConfig
    small = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, vocab_size=600)
    return lambda **_: config(**small)


def _pixel_dit() -> Any:
    te = text_encoders.pixeldit
    config = families.PixelDiTT2I(
        dict(
            image_model="pixeldit_t2i", num_groups=2, hidden_size=32, pixel_hidden_size=8, pixel_attn_hidden_size=32,
            pixel_num_groups=2, patch_depth=1, pixel_depth=1, patch_size=4, txt_embed_dim=WIDTH_LLM,
        )
    )  # fmt: skip
    return config, small_clip(te.PixelDiTGemma2Tokenizer, te.PixelDiTGemma2TE, 600, spiece_model=_spiece())


def _krea2() -> Any:
    te = text_encoders.krea2
    config = families.Krea2(
        dict(
            image_model="krea2", features=256, tdim=32, txtdim=WIDTH_LLM, heads=2, kvheads=1, multiplier=2, layers=1,
            channels=16, txtlayers=12, txtheads=2, txtkvheads=2,
        )
    )  # fmt: skip
    return config, small_clip(te.Krea2Tokenizer, te.te())


def _boogu() -> Any:
    te = text_encoders.boogu
    config = families.Boogu(
        dict(
            image_model="boogu", hidden_size=32, num_layers=1, num_double_stream_layers=1, num_refiner_layers=1,
            num_attention_heads=2, num_kv_heads=1, multiple_of=16, axes_dim_rope=(4, 6, 6),
            instruction_feat_dim=WIDTH_LLM,
        )
    )  # fmt: skip
    return config, small_clip(te.BooguTokenizer, te.te())


def _mage_flow() -> Any:
    te = text_encoders.mage_flow
    config = families.MageFlow(
        dict(
            image_model="mage_flow", num_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=WIDTH_LLM, axes_dims_rope=(4, 6, 6),
        )
    )  # fmt: skip
    return config, small_clip(te.MageFlowTokenizer, te.te())


def _ideogram() -> Any:
    te = text_encoders.ideogram4
    small = type("Ideogram4", (families.Ideogram4,), {"unet_extra_config": {}})
    config = small(
        dict(
            image_model="ideogram4", num_layers=1, num_attention_heads=2, attention_head_dim=16, intermediate_size=48,
            adaln_dim=16, llm_features_dim=13 * WIDTH_LLM, mrope_section=(4, 2, 2),
        )
    )  # fmt: skip
    return config, small_clip(te.Ideogram4Tokenizer, te.te())


def _joy() -> Any:
    te = text_encoders.joyimage
    small = type("JoyImage", (families.JoyImage,), {"unet_extra_config": {}})
    config = small(
        dict(
            image_model="joyimage", hidden_size=32, num_attention_heads=2, text_dim=WIDTH_LLM, num_layers=1,
            patch_size=[1, 2, 2], rope_dim_list=[4, 6, 6], mlp_width_ratio=2.0,
        )
    )  # fmt: skip
    return config, small_clip(te.JoyImageTokenizer, te.te())


def _spiece() -> torch.Tensor:
    return torch.frombuffer(bytearray(spiece_model()), dtype=torch.uint8)


TRANSFORMERS: dict[str, Callable[[], Any]] = {
    "Stable Cascade C": _cascade,
    "AuraFlow": _aura,
    "PixArt alpha": lambda: _pixart(families.PixArtAlpha),
    "PixArt sigma": lambda: _pixart(families.PixArtSigma),
    "HunyuanDiT 1.2": lambda: _hunyuan_dit(families.HunyuanDiT),
    "HunyuanDiT 1.1": lambda: _hunyuan_dit(families.HunyuanDiT1),
    "Chroma": _chroma,
    "Flux.2": lambda: _flux2(
        text_encoders.flux.Flux2Tokenizer, text_encoders.flux.flux2_te(), tekken_model=tekken_model()
    ),
    "Flux.2 Klein": lambda: _flux2(text_encoders.flux.KleinTokenizer, text_encoders.flux.klein_te()),
    "LongCat Image": _longcat,
    "Ovis Image": _ovis,
    "HiDream": _hidream,
    "Lumina 2": lambda: _lumina(text_encoders.lumina2.LuminaTokenizer, text_encoders.lumina2.te()),
    "Z-Image": _z_image,
    "Qwen-Image": _qwen_image,
    "OmniGen 2": _omnigen2,
    "HunyuanImage 2.1": _hunyuan_image,
    "HunyuanVideo": _hunyuan_video_1,
    "HunyuanVideo 1.5": _hunyuan_video_15,
    "Wan 2.1": wan,
    "Wan 2.2 5B": lambda: wan(families.WAN22_T2V, 48),
    "LTX-Video": _ltxv,
    "Mochi": _mochi,
    "Cosmos": _cosmos,
    "Cosmos-Predict2": _predict2,
    "Anima": _anima,
    "Kandinsky 5 Image": lambda: _kandinsky(families.Kandinsky5Image, "Kandinsky5TokenizerImage", 64),
    "Kandinsky 5": lambda: _kandinsky(families.Kandinsky5, "Kandinsky5Tokenizer", 132),
    "Ernie Image": _ernie,
    "Chroma Radiance": _radiance,
    "Z-Image (pixels)": _z_image_pixels,
    "NewBie": _newbie,
    "PixelDiT": _pixel_dit,
    "Krea 2": _krea2,
    "Boogu Image": _boogu,
    "Mage-Flow": _mage_flow,
    "Ideogram 4": _ideogram,
    "JoyImage": _joy,
}
