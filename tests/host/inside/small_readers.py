"""The host's transformers (DiT) that read a language model, in small: a configuration and a CLIP for each."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import comfy.supported_models as families
from comfy import text_encoders
from small_encoders import WIDTH_L, WIDTH_LLM, small_clip, spiece_model, tekken_model
from small_transformers import PREDICT2, flux_like


def _flux2(tokenizer: Any, encoder: Any, data: Any = None, **changes: Any) -> Any:
    plain = dict(
        image_model="flux2", in_channels=128, out_channels=128, context_in_dim=3 * WIDTH_LLM, patch_size=1,
        axes_dim=[4, 4, 4, 4], theta=2000, global_modulation=True, mlp_silu_act=True, qkv_bias=False, ops_bias=False,
        default_ref_method="index", ref_index_scale=10.0, txt_ids_dims=[3],
    )  # fmt: skip
    return flux_like(families.Flux2, small_clip(tokenizer, encoder, **(data or {})), **{**plain, **changes})


def flux2_klein(**changes: Any) -> Any:
    return _flux2(text_encoders.flux.KleinTokenizer, text_encoders.flux.klein_te(), **changes)


def _longcat() -> Any:
    clip = small_clip(text_encoders.longcat_image.LongCatImageTokenizer, text_encoders.longcat_image.te())
    return flux_like(families.LongCatImage, clip, context_in_dim=WIDTH_LLM, txt_ids_dims=[1, 2])


def _ovis() -> Any:
    clip = small_clip(text_encoders.ovis.OvisTokenizer, text_encoders.ovis.te())
    more = dict(context_in_dim=WIDTH_LLM, txt_ids_dims=[1, 2], yak_mlp=True, txt_norm=True)
    return flux_like(families.FluxSchnell, clip, **more)


def _lumina(
    tokenizer: Any, encoder: Any, dim: int = 32, family: Any = None, image: str = "lumina2", **more: Any
) -> Any:
    data = {"spiece_model": spiece_model()} if "lumina2" in tokenizer.__module__ else {}
    clip = small_clip(tokenizer, encoder, 600 if data else None, **data)
    plain = dict(
        image_model=image, patch_size=2, in_channels=16, dim=dim, n_layers=1, n_refiner_layers=1, n_heads=dim // 16,
        n_kv_heads=dim // 16, multiple_of=16, ffn_dim_multiplier=1.0, qk_norm=True, cap_feat_dim=WIDTH_LLM,
        axes_dims=[4, 6, 6], axes_lens=[300, 512, 512],
    )  # fmt: skip
    config = (family or families.Lumina2)({**plain, **more})
    return config, clip


def lumina2(**changes: Any) -> Any:
    return _lumina(text_encoders.lumina2.LuminaTokenizer, text_encoders.lumina2.te(), **changes)


def _z_image() -> Any:
    more = dict(z_image_modulation=True, time_scale=1000.0, rope_theta=256.0, pad_tokens_multiple=32)
    z = text_encoders.z_image
    return _lumina(z.ZImageTokenizer, z.te(), dim=256, family=families.ZImage, **more)


def _z_image_pixels() -> Any:
    more = dict(z_image_modulation=True, time_scale=1000.0, rope_theta=256.0, pad_tokens_multiple=32)
    more |= dict(patch_size=4, in_channels=3, decoder_hidden_size=32, decoder_num_res_blocks=1, decoder_max_freqs=2)
    z = text_encoders.z_image
    return _lumina(z.ZImageTokenizer, z.te(), dim=256, family=families.ZImagePixelSpace, image="zimage_pixel", **more)


def _newbie() -> Any:
    te = text_encoders.newbie
    pieces = {"gemma_spiece_model": spiece_model(), "jina_spiece_model": spiece_model()}
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
    return config, small_clip(te.PixelDiTGemma2Tokenizer, te.PixelDiTGemma2TE, 600, spiece_model=spiece_model())


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


def _anima() -> Any:
    import comfy.ldm.anima.model as anima

    if not isinstance(anima.LLMAdapter, functools.partial):  # its widths are written into the host's code
        anima.LLMAdapter = functools.partial(
            anima.LLMAdapter, source_dim=WIDTH_LLM, target_dim=32, model_dim=32, num_layers=1, num_heads=2
        )
    own = dict(image_model="anima", crossattn_emb_channels=32)
    clip = small_clip(text_encoders.anima.AnimaTokenizer, text_encoders.anima.te())
    return families.Anima({**PREDICT2, **own}), clip


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


READERS: dict[str, Callable[[], Any]] = {
    "Flux.2": lambda: _flux2(
        text_encoders.flux.Flux2Tokenizer, text_encoders.flux.flux2_te(), {"tekken_model": tekken_model()}
    ),
    "Flux.2 Klein": flux2_klein,
    "LongCat Image": _longcat,
    "Ovis Image": _ovis,
    "Lumina 2": lumina2,
    "Z-Image": _z_image,
    "Qwen-Image": _qwen_image,
    "OmniGen 2": _omnigen2,
    "Anima": _anima,
    "Kandinsky 5 Image": lambda: _kandinsky(families.Kandinsky5Image, "Kandinsky5TokenizerImage", 64),
    "Kandinsky 5": lambda: _kandinsky(families.Kandinsky5, "Kandinsky5Tokenizer", 132),
    "Ernie Image": _ernie,
    "Z-Image (pixels)": _z_image_pixels,
    "NewBie": _newbie,
    "PixelDiT": _pixel_dit,
    "Krea 2": _krea2,
    "Boogu Image": _boogu,
    "Mage-Flow": _mage_flow,
    "Ideogram 4": _ideogram,
    "JoyImage": _joy,
}
