"""Models of the families in small, made of the host's own classes, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import comfy.supported_models as families
import pytest
import torch
from comfy import sd1_clip, sdxl_clip
from comfy.ldm.flux.model import FluxParams
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher
from comfy.text_encoders import flux, sd2_clip, sd3_clip
from small_encoders import WIDTH_G, WIDTH_L, WIDTH_T5, small_clip
from small_readers import READERS
from small_transformers import TRANSFORMERS
from torch import nn

CPU = torch.device("cpu")
SIDES = {"PixArt alpha": 36, "PixArt sigma": 36}
"""Side of the latents, where the host's own code does not take 8."""


class Models(NamedTuple):
    model: Any
    clip: Any
    vae: Any


def build(name: str, dtype: torch.dtype = torch.float32, computes_in: torch.dtype | None = None) -> Models:
    """A small model of a family in SMALL, its text encoders and a stand-in for its autoencoder.

    dtype: of the model's weights, which are left without values unless it is float32. computes_in: where that differs.
    Skips the test where the host has no such family.
    """
    torch.manual_seed(0)
    try:
        config, clip = SMALL[name]()
    except (AttributeError, ModuleNotFoundError) as error:
        where = error.obj if isinstance(error, AttributeError) else None
        lacking = str(error.name) if isinstance(error, ModuleNotFoundError) else getattr(where, "__name__", "")
        if isinstance(where, ModuleType | None) and lacking.startswith("comfy."):
            pytest.skip(f"this host has no {name}")
        raise
    config.set_inference_dtype(dtype, computes_in)
    base = config.get_model({}, "", device=None).train(False)
    if dtype == torch.float32:
        _fill(base.diffusion_model)
    _fill(clip.cond_stage_model)
    model = ModelPatcher(base, load_device=CPU, offload_device=CPU)
    return Models(model, clip, _Vae(config.latent_format, SIDES.get(name, 8)))


class _Vae(SimpleNamespace):
    """As much of an autoencoder as training asks for: latents that hang together with the picture."""

    def __init__(self, latent_format: Any, side: int) -> None:
        film = getattr(latent_format, "latent_dimensions", 2) == 3
        super().__init__(latent_channels=latent_format.latent_channels, side=side, film=film, downscale_ratio=8)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """[1, H, W, 3] -> [1, C, (1,) side, side]"""
        small = nn.functional.adaptive_avg_pool2d(pictures.movedim(-1, 1), self.side)
        mix = torch.randn(self.latent_channels, 3, generator=torch.Generator().manual_seed(0))
        latents = torch.einsum("lc,bchw->blhw", mix, small * 2 - 1)
        return latents.unsqueeze(2) if self.film else latents


def _unet(family: type, context: int, adm: int | None = None, inputs: int = 4, **more: Any) -> Any:
    small = type(family.__name__, (family,), {"unet_extra_config": {"num_heads": 2, "num_head_channels": -1}, **more})
    classes = {} if adm is None else {"num_classes": "sequential"}
    return small(
        dict(
            image_size=8, in_channels=inputs, out_channels=4, model_channels=32, num_res_blocks=[1, 1],
            channel_mult=[1, 2], transformer_depth=[1, 1], transformer_depth_output=[1, 1, 1, 1],
            transformer_depth_middle=1, context_dim=context, use_spatial_transformer=True,
            use_linear_in_transformer=adm is not None, adm_in_channels=adm, use_temporal_attention=False, legacy=False,
            num_heads=2, **classes,
        )
    )  # fmt: skip


def _fill(module: nn.Module) -> None:
    """The host makes its layers and tables without values."""
    for table in module.buffers():
        if table.is_floating_point():
            nn.init.normal_(table, std=0.05)
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        elif name.endswith("bias") or "logit_scale" in name:
            nn.init.normal_(parameter, std=0.05)
        else:
            nn.init.normal_(parameter, mean=1, std=0.05)


def sd1(family: Any = families.SD15, **more: Any) -> Any:
    return _unet(family, WIDTH_L, **more), small_clip(sd1_clip.SD1Tokenizer, sd1_clip.SD1ClipModel)


def sd2(family: Any = families.SD20, **more: Any) -> Any:
    return _unet(family, WIDTH_L, **more), small_clip(sd2_clip.SD2Tokenizer, sd2_clip.SD2ClipModel)


def _v(*_: Any) -> ModelType:
    return ModelType.V_PREDICTION


def _edm(self: Any, *_: Any) -> ModelType:
    self.sampling_settings = {"sigma_data": 0.5, "sigma_max": 80.0, "sigma_min": 0.002}
    return ModelType.EDM


def _unclip() -> Any:
    noise = {"timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
    settings = {"noise_schedule_config": noise, "timestep_dim": 16}
    return sd2(families.SD21UnclipL, adm=32, noise_aug_config=settings, model_type=_v)


def _sdxl(**more: Any) -> Any:
    clip = small_clip(sdxl_clip.SDXLTokenizer, sdxl_clip.SDXLClipModel)
    return _unet(families.SDXL, WIDTH_L + WIDTH_G, WIDTH_G + 6 * 256, **more), clip


def _refiner() -> Any:
    clip = small_clip(sdxl_clip.SDXLTokenizer, sdxl_clip.SDXLRefinerClipModel)
    return _unet(families.SDXLRefiner, WIDTH_G, WIDTH_G + 5 * 256), clip


class _FewNumbers:
    """A tokenizer whose numbers fit into a small table."""

    def __init__(self, tokenizer: Any, count: int) -> None:
        self._tokenizer, self._count = tokenizer, count

    def __call__(self, text: str, **kwargs: Any) -> dict[str, list[int]]:
        return {"input_ids": [i if i < 2 else 2 + i % (self._count - 2) for i in self._tokenizer(text)["input_ids"]]}


def _sd3(t5: bool = False, **more: Any) -> Any:
    hidden = 64 * 2  # the host's MMDiT makes its width of its depth
    config = families.SD3(
        dict(
            image_model=None, in_channels=16, patch_size=2, out_channels=16, depth=2, input_size=None,
            adm_in_channels=WIDTH_L + WIDTH_G, num_patches=64, pos_embed_max_size=8, pos_embed_scaling_factor=None,
            context_embedder_config={
                "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": hidden},
            }, **more,
        )
    )  # fmt: skip
    config.unet_config.pop("image_model")
    few = 500 if t5 else None
    # The host fills the text up to T5's true width with zeros, so here T5 keeps it, with few words.
    clip = small_clip(sd3_clip.SD3Tokenizer, sd3_clip.sd3_clip(clip_l=True, clip_g=True, t5=t5), few, t5_width=4096)
    if few is not None:
        clip.tokenizer.t5xxl.tokenizer = _FewNumbers(clip.tokenizer.t5xxl.tokenizer, few)
    return config, clip


def flux_1(family: Any = families.Flux, guidance: bool = True, inputs: int = 16, **more: Any) -> Any:
    newer = {"txt_ids_dims": []} if "txt_ids_dims" in {f.name for f in fields(FluxParams)} else {}
    plain = dict(
        image_model="flux", in_channels=inputs, out_channels=16, vec_in_dim=WIDTH_L, context_in_dim=WIDTH_T5,
        hidden_size=32, mlp_ratio=2.0, num_heads=2, depth=1, depth_single_blocks=1, axes_dim=[4, 6, 6], theta=10000,
        patch_size=2, qkv_bias=True, guidance_embed=guidance, **newer,
    )  # fmt: skip
    config = family({**plain, **more})
    return config, small_clip(flux.FluxTokenizer, flux.flux_clip())


SMALL: dict[str, Callable[[], Any]] = {
    "SD1": sd1,
    "SD1 inpainting": lambda: sd1(inputs=9),
    "SD2": sd2,
    "SD2 v": lambda: sd2(model_type=_v),
    "SD2 inpainting": lambda: sd2(inputs=9),
    "SD2.1 unCLIP": _unclip,
    "SDXL": _sdxl,
    "SDXL v, zero SNR": lambda: _sdxl(model_type=_v, sampling_settings={"zsnr": True}),
    "SDXL EDM (Playground 2.5)": lambda: _sdxl(model_type=_edm),
    "SDXL inpainting": lambda: _sdxl(inputs=9),
    "SDXL refiner": _refiner,
    "SD3": _sd3,
    "SD3.5 with T5": lambda: _sd3(t5=True, qk_norm="rms", x_block_self_attn_layers=[0]),
    "Flux dev": flux_1,
    "Flux schnell": lambda: flux_1(families.FluxSchnell, guidance=False),
    "Flux Fill": lambda: flux_1(families.FluxInpaint, inputs=96),
    **TRANSFORMERS,
    **READERS,
}
