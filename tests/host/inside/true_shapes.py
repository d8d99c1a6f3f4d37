"""Published models by their shapes: what the host's own classes have to be told to be as large as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import comfy.model_patcher
import comfy.sd
import comfy.supported_models as families
import torch
from comfy import sd1_clip, sdxl_clip, text_encoders
from comfy.ldm.flux.model import FluxParams
from comfy.sd1_clip import SDClipModel
from comfy.supported_models_base import ClipTarget
from small_encoders import spiece_model, stand_in_tokenizers, tekken_model

te: Any = text_encoders
UNET = dict(
    image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[2] * 4, channel_mult=[1, 2, 4, 4],
    transformer_depth=[1] * 6 + [0] * 2, transformer_depth_output=[1] * 9 + [0] * 3, transformer_depth_middle=1,
    context_dim=768, use_spatial_transformer=True, use_linear_in_transformer=False, adm_in_channels=None,
    use_temporal_attention=False, legacy=False, num_heads=8, num_head_channels=-1,
)  # fmt: skip
SD2_UNET = UNET | dict(use_linear_in_transformer=True, context_dim=1024, num_heads=-1, num_head_channels=64)
SDXL_UNET = SD2_UNET | dict(
    num_res_blocks=[2] * 3, channel_mult=[1, 2, 4], transformer_depth=[0, 0, 2, 2, 10, 10],
    transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10], transformer_depth_middle=10, context_dim=2048,
    adm_in_channels=2816, num_classes="sequential",
)  # fmt: skip
FLUX = dict(
    image_model="flux", in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=4096, hidden_size=3072,
    mlp_ratio=4.0, num_heads=24, depth=19, depth_single_blocks=38, axes_dim=[16, 56, 56], theta=10000, patch_size=2,
    qkv_bias=True, guidance_embed=True,
)  # fmt: skip
CHROMA = {k: v for k, v in FLUX.items() if k != "guidance_embed"} | dict(
    image_model="chroma", vec_in_dim=None, in_channels=64, out_channels=64, in_dim=64, out_dim=3072, hidden_dim=5120,
    n_layers=5,
)  # fmt: skip
FLUX_2 = FLUX | dict(
    image_model="flux2", in_channels=128, out_channels=128, vec_in_dim=None, context_in_dim=15360, hidden_size=6144,
    mlp_ratio=3.0, num_heads=48, depth=8, depth_single_blocks=48, axes_dim=[32] * 4, theta=2000, patch_size=1,
    qkv_bias=False, ops_bias=False, global_modulation=True, mlp_silu_act=True, txt_ids_dims=[3],
    default_ref_method="index", ref_index_scale=10.0,
)  # fmt: skip
KLEIN_4B = FLUX_2 | dict(
    context_in_dim=7680, hidden_size=3072, num_heads=24, depth=5, depth_single_blocks=20, guidance_embed=False
)
LUMINA = dict(
    image_model="lumina2", patch_size=2, in_channels=16, dim=2304, cap_feat_dim=2304, n_layers=26, qk_norm=True,
    n_heads=24, n_kv_heads=8, axes_dims=[32, 32, 32], axes_lens=[300, 512, 512], rope_theta=10000.0,
    ffn_dim_multiplier=4.0,
)  # fmt: skip
Z_IMAGE = LUMINA | dict(
    dim=3840, cap_feat_dim=2560, n_layers=30, n_heads=30, n_kv_heads=30, axes_dims=[32, 48, 48],
    axes_lens=[1536, 512, 512], rope_theta=256.0, ffn_dim_multiplier=8.0 / 3.0, z_image_modulation=True,
    time_scale=1000.0, pad_tokens_multiple=32,
)  # fmt: skip
WAN = dict(
    image_model="wan2.1", model_type="t2v", dim=1536, ffn_dim=8960, freq_dim=256, num_heads=12, num_layers=30,
    in_dim=16, out_dim=16, patch_size=(1, 2, 2), window_size=(-1, -1), qk_norm=True, cross_attn_norm=True, eps=1e-6,
)  # fmt: skip
PIXART = dict(
    image_model="pixart_sigma", hidden_size=1152, depth=28, num_heads=16, patch_size=2, in_channels=4,
    model_max_length=300, input_size=128, pe_interpolation=2, micro_condition=False,
)  # fmt: skip
HUNYUAN_VIDEO = dict(
    image_model="hunyuan_video", in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=4096,
    hidden_size=3072, mlp_ratio=4.0, num_heads=24, depth=20, depth_single_blocks=40, axes_dim=[16, 56, 56], theta=256,
    patch_size=[1, 2, 2], qkv_bias=True, guidance_embed=True, byt5=False, meanflow=False, meanflow_sum=False,
    use_cond_type_embedding=False, vision_in_dim=None,
)  # fmt: skip
HUNYUAN_IMAGE = HUNYUAN_VIDEO | dict(
    in_channels=64, out_channels=64, vec_in_dim=None, context_in_dim=3584, hidden_size=3584, num_heads=28,
    axes_dim=[64, 64], patch_size=[1, 1], guidance_embed=False, byt5=True,
)  # fmt: skip
PREDICT_2 = dict(
    image_model="cosmos_predict2", max_img_h=240, max_img_w=240, max_frames=128, in_channels=16, out_channels=16,
    patch_spatial=2, patch_temporal=1, model_channels=2048, concat_padding_mask=True, crossattn_emb_channels=1024,
    pos_emb_cls="rope3d", pos_emb_learnable=True, pos_emb_interpolation="crop", min_fps=1, max_fps=30,
    use_adaln_lora=True, adaln_lora_dim=256, num_blocks=28, num_heads=16, extra_per_block_abs_pos_emb=False,
    rope_h_extrapolation_ratio=4.0, rope_w_extrapolation_ratio=4.0, rope_t_extrapolation_ratio=1.0,
    extra_h_extrapolation_ratio=1.0, extra_w_extrapolation_ratio=1.0, extra_t_extrapolation_ratio=1.0,
    rope_enable_fps_modulation=False,
)  # fmt: skip
COSMOS = dict(
    image_model="cosmos", max_img_h=240, max_img_w=240, max_frames=128, in_channels=16, out_channels=16,
    patch_spatial=2, patch_temporal=1, model_channels=4096, block_config="FA-CA-MLP", concat_padding_mask=True,
    pos_emb_cls="rope3d", pos_emb_learnable=False, pos_emb_interpolation="crop", block_x_format="THWBD",
    affline_emb_norm=True, use_adaln_lora=True, adaln_lora_dim=256, num_blocks=28, num_heads=32,
    extra_per_block_abs_pos_emb=True, rope_h_extrapolation_ratio=1.0, rope_w_extrapolation_ratio=1.0,
    rope_t_extrapolation_ratio=2.0, extra_per_block_abs_pos_emb_type="learnable",
)  # fmt: skip
MOCHI = dict(
    image_model="mochi_preview", depth=48, patch_size=2, num_heads=24, hidden_size_x=3072, hidden_size_y=1536,
    mlp_ratio_x=4.0, mlp_ratio_y=4.0, learn_sigma=False, in_channels=12, qk_norm=True, qkv_bias=False, out_bias=True,
    attn_drop=0.0, patch_embed_bias=True, posenc_preserve_area=True, timestep_mlp_bias=True, attend_to_padding=False,
    timestep_scale=1000.0, use_t5=True, t5_feat_dim=4096, t5_token_length=256, rope_theta=10000.0,
)  # fmt: skip
HIDREAM = dict(
    image_model="hidream", attention_head_dim=128, axes_dims_rope=[64, 32, 32], caption_channels=[4096, 4096],
    max_resolution=[128, 128], in_channels=16, llama_layers=[*range(32), *[31] * 16], num_attention_heads=20,
    num_routed_experts=4, num_activated_experts=2, num_layers=16, num_single_layers=32, out_channels=16, patch_size=2,
    text_emb_dim=2048,
)  # fmt: skip
OMNIGEN_2 = dict(
    image_model="omnigen2", axes_dim_rope=[40, 40, 40], axes_lens=[1024, 1664, 1664], hidden_size=2520, in_channels=16,
    num_attention_heads=21, num_kv_heads=7, num_layers=32, num_refiner_layers=2, text_feat_dim=2048,
    timestep_scale=1000.0,
)  # fmt: skip
QWEN_IMAGE = dict(image_model="qwen_image", in_channels=64, num_layers=60)
LTXV = dict(image_model="ltxv", num_layers=28, attention_head_dim=64, cross_attention_dim=2048)
HUNYUAN_DIT = dict(image_model="hydit", depth=40, hidden_size=1408, mlp_ratio=4.3637)
AURA = dict(max_seq=9216, cond_seq_dim=2048, n_double_layers=4, n_layers=36)
CASCADE = dict(stable_cascade_stage="c", c_cond=2048)


def mmdit(depth: int, patches: int, **more: Any) -> dict[str, Any]:
    context = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 64 * depth}}
    return dict(
        in_channels=16, patch_size=2, out_channels=16, depth=depth, input_size=None, adm_in_channels=2048,
        num_patches=patches**2, pos_embed_max_size=patches, pos_embed_scaling_factor=None,
        context_embedder_config=context, **more,
    )  # fmt: skip


@dataclass(frozen=True)
class Published:
    """A model as it was published.

    family: as in small_families. supported: the host's name for it. encoders: its tokenizer and its text encoders.
    billions: of parameters, as told by who published it, without the text encoders. precision: "fp16", "bf16" or
    "fp8": of the weights; with the last, large text encoders are fp8 too, and all are computed with in bf16.
    factor: pixels of a latent's side. resolution: of the pictures; None for what the family was trained on.
    tokenizer_data: vocabularies that the host reads from files.
    """

    family: str
    supported: str
    config: Mapping[str, Any]
    encoders: Callable[[], tuple[type, type]]
    billions: float
    precision: str
    factor: int = 8
    resolution: int | None = None
    tokenizer_data: Callable[[], dict[str, Any]] = dict
    sampling: dict[str, Any] = field(default_factory=dict)


def _sd2() -> tuple[Any, Any]:
    return te.sd2_clip.SD2Tokenizer, te.sd2_clip.SD2ClipModel


def _sd3(t5: bool) -> Callable[[], tuple[Any, Any]]:
    return lambda: (te.sd3_clip.SD3Tokenizer, te.sd3_clip.sd3_clip(clip_l=True, clip_g=True, t5=t5))


def _flux() -> tuple[Any, Any]:
    return te.flux.FluxTokenizer, te.flux.flux_clip()


def _t5() -> tuple[Any, Any]:
    return te.pixart_t5.PixArtTokenizer, te.pixart_t5.PixArtT5XXL


def _umt5() -> tuple[Any, Any]:
    return te.wan.WanT5Tokenizer, te.wan.WanT5Model


def _old_t5() -> tuple[Any, Any]:
    return te.cosmos.CosmosT5Tokenizer, te.cosmos.te()


def _v(*_: Any) -> Any:
    return comfy.model_base.ModelType.V_PREDICTION


PUBLISHED: dict[str, Published] = {
    "Stable Diffusion 1.5": Published(
        "SD1", "SD15", UNET, lambda: (sd1_clip.SD1Tokenizer, sd1_clip.SD1ClipModel), 0.860, "fp16"
    ),
    "Stable Diffusion 2.1 base": Published("SD2", "SD20", SD2_UNET, _sd2, 0.866, "fp16"),
    "Stable Diffusion 2.1": Published("SD2 v", "SD20", SD2_UNET, _sd2, 0.866, "fp16", sampling={"model_type": _v}),
    "SDXL 1.0": Published(
        "SDXL", "SDXL", SDXL_UNET, lambda: (sdxl_clip.SDXLTokenizer, sdxl_clip.SDXLClipModel), 2.57, "fp16"
    ),
    "Stable Diffusion 3 medium": Published("SD3", "SD3", mmdit(24, 192), _sd3(t5=False), 2.03, "fp16"),
    "Stable Diffusion 3.5 medium": Published(
        "SD3.5 with T5", "SD3", mmdit(24, 384, qk_norm="rms", x_block_self_attn_layers=[*range(13)]), _sd3(t5=True),
        2.47, "fp16",
    ),
    "Stable Diffusion 3.5 large": Published(
        "SD3.5 with T5", "SD3", mmdit(38, 192, qk_norm="rms"), _sd3(t5=True), 8.06, "fp8"
    ),
    "FLUX.1 dev": Published("Flux dev", "Flux", FLUX, _flux, 11.9, "fp8"),
    "FLUX.1 schnell": Published(
        "Flux schnell", "FluxSchnell", FLUX | dict(guidance_embed=False), _flux, 11.9, "fp8"
    ),
    "FLUX.2 dev": Published(
        "Flux.2", "Flux2", FLUX_2, lambda: (te.flux.Flux2Tokenizer, te.flux.flux2_te()), 32.2, "fp8", factor=16,
        tokenizer_data=lambda: {"tekken_model": tekken_model()},
    ),
    "FLUX.2 klein 4B": Published(
        "Flux.2 Klein", "Flux2", KLEIN_4B, lambda: (te.flux.KleinTokenizer, te.flux.klein_te()), 3.88, "bf16", factor=16
    ),
    "Chroma1": Published("Chroma", "Chroma", CHROMA, _t5, 8.9, "fp8"),
    "Stable Cascade C": Published(
        "Stable Cascade C", "Stable_Cascade_C", CASCADE,
        lambda: (sdxl_clip.StableCascadeTokenizer, sdxl_clip.StableCascadeClipModel), 3.6, "bf16", factor=42,
    ),
    "AuraFlow": Published(
        "AuraFlow", "AuraFlow", AURA, lambda: (te.aura_t5.AuraT5Tokenizer, te.aura_t5.AuraT5Model), 6.8, "bf16"
    ),
    "PixArt-alpha XL": Published(
        "PixArt alpha", "PixArtAlpha",
        PIXART | dict(image_model="pixart_alpha", model_max_length=120, micro_condition=True), _t5, 0.61, "fp16",
    ),
    "PixArt-Sigma XL": Published("PixArt sigma", "PixArtSigma", PIXART, _t5, 0.61, "fp16"),
    "HunyuanDiT 1.2": Published(
        "HunyuanDiT 1.2", "HunyuanDiT", HUNYUAN_DIT, lambda: (te.hydit.HyditTokenizer, te.hydit.HyditModel), 1.5,
        "fp16",
        tokenizer_data=lambda: {"mt5xl.spiece_model": spiece_model()},
    ),
    "HiDream-I1": Published(
        "HiDream", "HiDream", HIDREAM, lambda: (te.hidream.HiDreamTokenizer, te.hidream.hidream_clip()), 17.1, "fp8"
    ),
    "Lumina-Image 2.0": Published(
        "Lumina 2", "Lumina2", LUMINA, lambda: (te.lumina2.LuminaTokenizer, te.lumina2.te()), 2.6, "bf16",
        tokenizer_data=lambda: {"spiece_model": spiece_model()},
    ),
    "Z-Image": Published(
        "Z-Image", "ZImage", Z_IMAGE, lambda: (te.z_image.ZImageTokenizer, te.z_image.te()), 6.15, "bf16"
    ),
    "Qwen-Image": Published(
        "Qwen-Image", "QwenImage", QWEN_IMAGE, lambda: (te.qwen_image.QwenImageTokenizer, te.qwen_image.te()), 20.4,
        "fp8",
    ),
    "OmniGen2": Published(
        "OmniGen 2", "Omnigen2", OMNIGEN_2, lambda: (te.omnigen2.Omnigen2Tokenizer, te.omnigen2.te()), 3.97, "bf16"
    ),
    "HunyuanImage 2.1": Published(
        "HunyuanImage 2.1", "HunyuanImage21", HUNYUAN_IMAGE,
        lambda: (te.hunyuan_image.HunyuanImageTokenizer, te.hunyuan_image.te(byt5=True)), 17, "fp8", factor=32,
        resolution=2048,
    ),
    "HunyuanVideo": Published(
        "HunyuanVideo", "HunyuanVideo", HUNYUAN_VIDEO,
        lambda: (te.hunyuan_video.HunyuanVideoTokenizer, te.hunyuan_video.hunyuan_video_clip()), 12.8, "fp8",
    ),
    "Wan 2.1 1.3B": Published(
        "Wan 2.1", "WAN21_T2V", WAN, _umt5, 1.42, "bf16", tokenizer_data=lambda: {"spiece_model": spiece_model()}
    ),
    "Wan 2.1 14B": Published(
        "Wan 2.1", "WAN21_T2V", WAN | dict(dim=5120, ffn_dim=13824, num_heads=40, num_layers=40), _umt5, 14.3, "fp8",
        tokenizer_data=lambda: {"spiece_model": spiece_model()},
    ),
    "Wan 2.2 5B": Published(
        "Wan 2.2 5B", "WAN22_T2V", WAN | dict(dim=3072, ffn_dim=14336, num_heads=24, in_dim=48, out_dim=48), _umt5, 5.0,
        "bf16", factor=16, tokenizer_data=lambda: {"spiece_model": spiece_model()},
    ),
    "LTX-Video 2B": Published(
        "LTX-Video", "LTXV", LTXV, lambda: (te.lt.LTXVT5Tokenizer, te.lt.ltxv_te()), 1.92, "bf16", factor=32
    ),
    "Mochi 1": Published(
        "Mochi", "GenmoMochi", MOCHI, lambda: (te.genmo.MochiT5Tokenizer, te.genmo.mochi_te()), 10.0, "fp8"
    ),
    "Cosmos 1.0 7B": Published("Cosmos", "CosmosT2V", COSMOS, _old_t5, 7.2, "bf16"),
    "Cosmos-Predict2 2B": Published("Cosmos-Predict2", "CosmosT2IPredict2", PREDICT_2, _old_t5, 1.96, "bf16"),
    "Cosmos-Predict2 14B": Published(
        "Cosmos-Predict2", "CosmosT2IPredict2", PREDICT_2 | dict(model_channels=5120, num_blocks=36, num_heads=40),
        _old_t5, 14.3, "fp8",
    ),
}  # fmt: skip


def build(published: Published) -> SimpleNamespace:
    """MODEL, CLIP and VAE, the last as far as training asks for it; all weights are on the meta device."""
    family = getattr(families, published.supported)
    config = dict(published.config)
    if "txt_ids_dims" in {f.name for f in fields(FluxParams)} and config.get("image_model") in ("flux", "chroma"):
        config["txt_ids_dims"] = []
    made = type(family.__name__, (family,), published.sampling)(config)
    fp8, half = torch.float8_e4m3fn, torch.float16 if published.precision == "fp16" else torch.bfloat16
    large = fp8 if published.precision == "fp8" else half
    made.set_inference_dtype(large, half if large is fp8 else None)
    meta, cpu = torch.device("meta"), torch.device("cpu")
    with _encoders_of(half, large):
        target = ClipTarget(*published.encoders())
        options, data = {"dtype": half, "initial_device": meta}, published.tokenizer_data()
        clip = comfy.sd.CLIP(target, model_options=options, tokenizer_data=data)
    base = made.get_model({}, "", device=meta).eval()
    model = comfy.model_patcher.ModelPatcher(base, load_device=cpu, offload_device=cpu)
    for module in [*base.modules(), *clip.cond_stage_model.modules()]:
        for name, kept in list(vars(module).items()):
            if isinstance(kept, torch.Tensor) and kept.is_meta:  # what a module has computed for itself
                vars(module)[name] = torch.zeros_like(kept, device=cpu)
    return SimpleNamespace(
        model=model, clip=clip, vae=SimpleNamespace(latent_channels=made.latent_format.latent_channels)
    )


@contextmanager
def _encoders_of(small: torch.dtype, large: torch.dtype) -> Any:
    """Text encoders of two precisions: CLIP's as it is published, larger ones as they fit."""
    original = SDClipModel.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        is_clip = "model_class" not in kwargs or kwargs["model_class"].__name__.startswith("CLIP")
        original(self, *args, **{**kwargs, "dtype": small if is_clip else large})

    with ExitStack() as stack:
        stack.enter_context(stand_in_tokenizers())
        stack.enter_context(patch.object(SDClipModel, "__init__", init))
        yield
