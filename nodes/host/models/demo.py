"""The demo model as MODEL, CLIP and VAE made of the host's own classes, so that every core node works with it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import comfy.model_base
import comfy.model_management as memory
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.utils
import torch
from comfy.sd1_clip import SD1ClipModel, SD1Tokenizer, SDClipModel, SDTokenizer
from comfy.supported_models_base import ClipTarget
from safetensors.torch import load_file
from torch import Tensor

from ....ti_engine.demo.model import AUTOENCODER, GUIDANCE, LATENT_SIZE, TEXT_ENCODER, UNET, WEIGHTS
from ....ti_engine.demo.threads import one_thread
from ....ti_engine.demo.tokenizer import MAX_LENGTH, VOCABULARY, DemoTokenizer
from ..text.folders import embedding_folders
from .demo_autoencoder import host_autoencoder
from .family import GUIDANCE_ATTRIBUTE, RESOLUTION_ATTRIBUTE

Weights = dict[str, Tensor]


class DemoModels(NamedTuple):
    """What a checkpoint loader gives: the three sockets."""

    model: Any
    clip: Any
    vae: Any


def load_demo_models(path: Path = WEIGHTS) -> DemoModels:
    """The demo model in float32 from the file that both backends share. ValueError if it is not there."""
    if not path.is_file():
        raise ValueError(f"The demo model's weights ({path.name}) are missing; install Textual Inversion again.")
    weights: Weights = {key: weight.float() for key, weight in load_file(path).items()}
    return DemoModels(
        _unet(_part(weights, "unet.")), _clip(_part(weights, "text_encoder.")), _vae(_part(weights, "vae."))
    )


def _part(weights: Weights, prefix: str) -> Weights:
    return {key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)}


class _Multiple(float):
    """A channel multiplier such as 1.5; the host multiplies it by the channels and needs a whole number."""

    def __mul__(self, channels: float) -> int:
        return round(float(self) * channels)

    __rmul__ = __mul__


class DemoSD(comfy.supported_models.SD15):
    """SD1 in small; the host calls models by the name of this class."""

    unet_config: dict[str, Any] = {}  # noqa: RUF012 - the host's base class declares it so
    unet_extra_config = {"num_heads": UNET["attention_head_dim"], "num_head_channels": -1}  # noqa: RUF012

    def model_type(self, state_dict: Any, prefix: str = "") -> Any:
        return comfy.model_base.ModelType.V_PREDICTION


def suitable_threads(patcher: Any) -> AbstractContextManager[None]:
    """As many threads as suit a MODEL while this lasts: one for the demo model."""
    return one_thread() if isinstance(patcher.model.model_config, DemoSD) else nullcontext()


def _unet(weights: Weights) -> Any:
    config = DemoSD(_unet_config())
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device=None).train(False)
    names = comfy.utils.unet_to_diffusers(config.unet_config)
    converted = {host: weights[theirs] for theirs, host in names.items() if theirs in weights}
    _load(model.diffusion_model, converted, "the UNet")
    setattr(model, GUIDANCE_ATTRIBUTE, GUIDANCE)
    setattr(model, RESOLUTION_ATTRIBUTE, 8 * UNET["sample_size"])
    # Not CoreModelPatcher: weights that are faulted in from a file need a file of the host's own kinds.
    return comfy.model_patcher.ModelPatcher(
        model, load_device=memory.get_torch_device(), offload_device=memory.unet_offload_device()
    )


def _unet_config() -> dict[str, Any]:
    """diffusers' description of the UNet in the host's terms."""
    channels = UNET["block_out_channels"]
    attends = ["CrossAttn" in kind for kind in UNET["down_block_types"]]
    layers = UNET["layers_per_block"]
    return {
        "image_size": LATENT_SIZE,
        "in_channels": UNET["in_channels"],
        "out_channels": UNET["out_channels"],
        "model_channels": channels[0],
        "channel_mult": [_Multiple(c / channels[0]) for c in channels],
        "num_res_blocks": [layers] * len(channels),
        "transformer_depth": [int(a) for a in attends for _ in range(layers)],
        "transformer_depth_output": [int(a) for a in attends for _ in range(layers + 1)],
        "transformer_depth_middle": 1,
        "context_dim": UNET["cross_attention_dim"],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "legacy": False,
        "num_heads": UNET["attention_head_dim"],
    }


class _DemoSubTokenizer(SDTokenizer):
    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None, **_: Any) -> None:
        super().__init__(
            tokenizer_path="",
            max_length=MAX_LENGTH,
            embedding_directory=embedding_directory,
            embedding_size=TEXT_ENCODER["hidden_size"],
            embedding_key="clip_l",
            tokenizer_class=DemoTokenizer,
            tokenizer_data=tokenizer_data or {},
        )


class _DemoFullTokenizer(SD1Tokenizer):
    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None, **_: Any) -> None:
        super().__init__(embedding_directory, tokenizer_data or {}, tokenizer=_DemoSubTokenizer)


class _DemoEncoder(SDClipModel):
    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None, **_: Any) -> None:
        start, end, pad = (TEXT_ENCODER[f"{name}_token_id"] for name in ("bos", "eos", "pad"))
        super().__init__(
            device=device,
            dtype=dtype,
            max_length=MAX_LENGTH,
            textmodel_json_config=dict(TEXT_ENCODER),
            special_tokens={"start": start, "end": end, "pad": pad},
            return_projected_pooled=False,
            model_options=model_options or {},
        )
        # The host's class always makes a table of CLIP's 49,408 rows.
        self.transformer.text_model.embeddings.token_embedding = self.operations.Embedding(
            len(VOCABULARY), TEXT_ENCODER["hidden_size"], dtype=dtype, device=device
        )
        self.freeze()


class _DemoClip(SD1ClipModel):
    disable_offload = True  # to newer hosts: not dynamically, as the UNet

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None, **_: Any) -> None:
        super().__init__(device=device, dtype=dtype, model_options=model_options or {}, clip_model=_DemoEncoder)


def _clip(weights: Weights) -> Any:
    target = ClipTarget(_DemoFullTokenizer, _DemoClip)
    # In float32, as the other backend computes; the host would make it float16.
    clip = comfy.sd.CLIP(target, embedding_directory=embedding_folders(), model_options={"dtype": torch.float32})
    bare = {key.removeprefix("text_model."): w for key, w in weights.items()}  # transformers 5 drops the prefix
    bare.pop("embeddings.position_ids", None)
    named = {f"text_model.{key}": weight for key, weight in bare.items()}
    width = TEXT_ENCODER["hidden_size"]
    named["text_projection.weight"] = torch.zeros(width, width)  # not used; the host leaves it without values
    _load(clip.cond_stage_model.clip_l.transformer, named, "the text encoder")
    return clip


def _vae(weights: Weights) -> Any:
    return comfy.sd.VAE(sd=host_autoencoder(weights, AUTOENCODER), dtype=torch.float32)


def _load(module: torch.nn.Module, weights: Weights, what: str) -> None:
    missing, unexpected = module.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise ValueError(
            f"The demo model's weights do not fit {what}: missing {missing[:3]}, unexpected {unexpected[:3]}. "
            "Install Textual Inversion again."
        )
