"""Models of the families in small, made of the host's own classes, with random weights."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any, NamedTuple

import comfy.sd
import comfy.supported_models as families
import torch
from comfy.ldm.flux.model import FluxParams
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher
from comfy.sd1_clip import SDClipModel, SDTokenizer
from comfy.sdxl_clip import SDXLClipGTokenizer, SDXLClipModel, SDXLRefinerClipModel
from comfy.supported_models_base import ClipTarget
from comfy.text_encoders import sd3_clip
from comfy.text_encoders.flux import FluxClipModel
from comfy.text_encoders.sd2_clip import SD2ClipHTokenizer, SD2ClipModel
from comfy.text_encoders.t5 import T5
from torch import nn

WIDTH_L, WIDTH_G, WIDTH_T5 = 32, 48, 40
CPU = torch.device("cpu")


class Models(NamedTuple):
    model: Any
    clip: Any
    vae: Any


def build(name: str) -> Models:
    """A small model of a family in SMALL, its text encoders and a stand-in for its autoencoder."""
    torch.manual_seed(0)
    config, clip, latent_channels = SMALL[name]()
    config.set_inference_dtype(torch.float32, None)
    base = config.get_model({}, "", device=None).train(False)
    _fill(base.diffusion_model)
    model = ModelPatcher(base, load_device=CPU, offload_device=CPU)
    return Models(model, clip, SimpleNamespace(latent_channels=latent_channels))


def _unet(family: type, context: int, adm: int | None = None, **more: Any) -> Any:
    small = type(family.__name__, (family,), {"unet_extra_config": {"num_heads": 2, "num_head_channels": -1}, **more})
    classes = {} if adm is None else {"num_classes": "sequential"}
    return small(
        dict(
            image_size=8, in_channels=4, out_channels=4, model_channels=32, num_res_blocks=[1, 1], channel_mult=[1, 2],
            transformer_depth=[1, 1], transformer_depth_output=[1, 1, 1, 1], transformer_depth_middle=1,
            context_dim=context, use_spatial_transformer=True, use_linear_in_transformer=adm is not None,
            adm_in_channels=adm, use_temporal_attention=False, legacy=False, num_heads=2, **classes,
        )
    )  # fmt: skip


def _clip_model(width: int, **options: Any) -> SDClipModel:
    config = dict(
        hidden_size=width, num_attention_heads=2, num_hidden_layers=3, intermediate_size=64, hidden_act="quick_gelu",
        max_position_embeddings=77, eos_token_id=49407, num_positions=77,
    )  # fmt: skip
    return SDClipModel(dtype=torch.float32, textmodel_json_config=config, **options)


def _penultimate(width: int, **options: Any) -> SDClipModel:
    return _clip_model(width, layer="hidden", layer_idx=-2, layer_norm_hidden_state=False, **options)


def _t5() -> SDClipModel:
    config = dict(
        d_ff=48, d_kv=8, d_model=WIDTH_T5, num_heads=2, num_layers=2, vocab_size=32128, model_type="t5",
        dense_act_fn="gelu_pytorch_tanh", is_gated_act=True, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    return SDClipModel(
        dtype=torch.float32, textmodel_json_config=config, model_class=T5, special_tokens={"end": 1, "pad": 0},
        layer="last",
    )  # fmt: skip


class _ClipBase(nn.Module):
    """Gives the host's composed classes their encoders without those classes' own, which are large."""

    def __init__(self, dtype: Any = None, device: Any = "cpu", model_options: Any = None) -> None:
        nn.Module.__init__(self)
        self.dtypes = {torch.float32}
        for name, encoder in self.small_encoders().items():
            setattr(self, name, encoder)

    def small_encoders(self) -> dict[str, SDClipModel | None]:
        raise NotImplementedError


class _SDXL(_ClipBase, SDXLClipModel):
    def small_encoders(self) -> dict[str, SDClipModel | None]:
        g = {"special_tokens": {"start": 49406, "end": 49407, "pad": 0}}
        return {"clip_l": _penultimate(WIDTH_L), "clip_g": _penultimate(WIDTH_G, return_projected_pooled=True, **g)}


class _Refiner(_ClipBase, SDXLRefinerClipModel):
    clip_name, clip = "g", "clip_g"

    def small_encoders(self) -> dict[str, SDClipModel | None]:
        g = {"special_tokens": {"start": 49406, "end": 49407, "pad": 0}}
        return {"clip_g": _penultimate(WIDTH_G, return_projected_pooled=True, **g)}


class _SD2(_ClipBase, SD2ClipModel):
    clip_name, clip = "h", "clip_h"

    def small_encoders(self) -> dict[str, SDClipModel | None]:
        pad = {"special_tokens": {"start": 49406, "end": 49407, "pad": 0}}
        return {"clip_h": _penultimate(WIDTH_L, return_projected_pooled=True, **pad)}


class _SD3(_ClipBase, sd3_clip.SD3ClipModel):
    def small_encoders(self) -> dict[str, SDClipModel | None]:
        return {
            "clip_l": _penultimate(WIDTH_L, return_projected_pooled=False),
            "clip_g": _penultimate(WIDTH_G, return_projected_pooled=True),
            "t5xxl": None,  # as in files without T5
        }


class _Flux(_ClipBase, FluxClipModel):
    def small_encoders(self) -> dict[str, SDClipModel | None]:
        return {"clip_l": _clip_model(WIDTH_L, return_projected_pooled=False), "t5xxl": _t5()}


def _narrow(tokenizers: dict[str, SDTokenizer]) -> type:
    """A tokenizer class with the host's tokenizers, told that their encoders are small."""

    class Tokenizer:
        def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
            for name, (make, width) in tokenizers.items():
                one = make(embedding_directory=embedding_directory)
                one.embedding_size = width
                setattr(self, name, one)

        def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs: Any) -> dict[str, Any]:
            return {
                name.removeprefix("clip_"): getattr(self, name).tokenize_with_weights(text, return_word_ids, **kwargs)
                for name in tokenizers
            }

        def state_dict(self) -> dict[str, Any]:
            return {}

    return Tokenizer


def _clip(encoder: type, **tokenizers: Any) -> Any:
    clip = comfy.sd.CLIP(ClipTarget(_narrow(tokenizers), encoder), model_options={"dtype": torch.float32})
    _fill(clip.cond_stage_model)
    return clip


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


def _sd2(**more: Any) -> Any:
    return _unet(families.SD20, WIDTH_L, **more), _clip(_SD2, clip_h=(SD2ClipHTokenizer, WIDTH_L)), 4


def _sd2_v() -> Any:
    return _sd2(model_type=lambda *_: ModelType.V_PREDICTION)


def _sdxl(**more: Any) -> Any:
    clip = _clip(_SDXL, clip_l=(SDTokenizer, WIDTH_L), clip_g=(SDXLClipGTokenizer, WIDTH_G))
    return _unet(families.SDXL, WIDTH_L + WIDTH_G, WIDTH_G + 6 * 256, **more), clip, 4


def _sdxl_v() -> Any:
    return _sdxl(model_type=lambda *_: ModelType.V_PREDICTION, sampling_settings={"zsnr": True})


def _refiner() -> Any:
    clip = _clip(_Refiner, clip_l=(SDTokenizer, WIDTH_L), clip_g=(SDXLClipGTokenizer, WIDTH_G))
    return _unet(families.SDXLRefiner, WIDTH_G, WIDTH_G + 5 * 256), clip, 4


def _sd3() -> Any:
    hidden = 64 * 2  # the host's MMDiT makes its width of its depth
    config = families.SD3(
        dict(
            image_model=None, in_channels=16, patch_size=2, out_channels=16, depth=2, input_size=None,
            adm_in_channels=WIDTH_L + WIDTH_G, num_patches=64, pos_embed_max_size=8, pos_embed_scaling_factor=None,
            context_embedder_config={
                "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": hidden},
            },
        )
    )  # fmt: skip
    config.unet_config.pop("image_model")
    clip = _clip(
        _SD3,
        clip_l=(SDTokenizer, WIDTH_L),
        clip_g=(SDXLClipGTokenizer, WIDTH_G),
        t5xxl=(sd3_clip.T5XXLTokenizer, 4096),
    )
    return config, clip, 16


def _flux(guidance: bool = True) -> Any:
    newer = {"txt_ids_dims": []} if "txt_ids_dims" in {f.name for f in fields(FluxParams)} else {}
    config = families.Flux(
        dict(
            image_model="flux", in_channels=16, out_channels=16, vec_in_dim=WIDTH_L, context_in_dim=WIDTH_T5,
            hidden_size=32, mlp_ratio=2.0, num_heads=2, depth=1, depth_single_blocks=1, axes_dim=[4, 6, 6], theta=10000,
            patch_size=2, qkv_bias=True, guidance_embed=guidance, **newer,
        )
    )  # fmt: skip
    clip = _clip(_Flux, clip_l=(SDTokenizer, WIDTH_L), t5xxl=(sd3_clip.T5XXLTokenizer, WIDTH_T5))
    return config, clip, 16


SMALL = {
    "SD2": _sd2,
    "SD2 v": _sd2_v,
    "SDXL": _sdxl,
    "SDXL v, zero SNR": _sdxl_v,
    "SDXL refiner": _refiner,
    "SD3": _sd3,
    "Flux dev": _flux,
    "Flux schnell": lambda: _flux(False),
}
