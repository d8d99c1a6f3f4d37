"""Which models can be trained, how they differ, and what is said about the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy import model_base, model_sampling
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ...ti_engine import NoiseSchedule
from ...ti_engine.noise import Prediction
from .encoders import TextEncoder, text_encoders

GUIDANCE_ATTRIBUTE = "textual_inversion_guidance"  # on a model that knows its own; the demo model does
_FAMILIES = "Stable Diffusion 1 and 2, SDXL with its refiner, Stable Diffusion 3 and Flux can be trained"


@dataclass(frozen=True)
class Family:
    """What a model is, as far as training has to know.

    name: the host's name for it. encoders: by key, all of them are trained. latent_channels: of its autoencoder.
    joins_captions: one encoder, of which the model reads the token states alone, so many captions fit in one pass.
    adds_in_place: its blocks overwrite what autograd would have to keep. guidance: for previews.
    """

    name: str
    encoders: Mapping[str, TextEncoder]
    latent_channels: int
    joins_captions: bool
    adds_in_place: bool
    guidance: float


def recognise(model: Any, clip: Any, vae: Any) -> Family:
    """The family if all three fit together and it can be trained; ValueError with what was found otherwise."""
    for name, thing in (("model", model), ("clip", clip), ("vae", vae)):
        if thing is None:
            raise ValueError(
                f"The loader gave no {name.upper()}, so the {name} input is empty; the file may not contain one. "
                f"Load it with a node of its own, or choose a full checkpoint."
            )
    base = model.model
    name = type(base.model_config).__name__
    config = getattr(base.model_config, "unet_config", {})
    unet = getattr(base, "diffusion_model", None)
    channels = int(getattr(base.latent_format, "latent_channels", 4))
    plain_unet = isinstance(unet, UNetModel) and type(base) in (
        model_base.BaseModel, model_base.SDXL, model_base.SDXLRefiner
    )  # fmt: skip
    # Subclasses are other models: they read other conditions, in other ways.
    if not plain_unet and type(base) not in (model_base.SD3, model_base.Flux):
        raise ValueError(f"{_FAMILIES}; this MODEL is a {name}.")
    inputs = config.get("in_channels")
    if type(base) is model_base.Flux:
        inputs = _flux_inputs(unet, channels)
    if type(base) is not model_base.SD3 and inputs != channels:
        raise ValueError(
            f"{_FAMILIES}, in their plain forms; this MODEL ({name}) takes more than the noisy picture (it has "
            f"{inputs} input channels), as models for inpainting, depth or editing do."
        )
    encoders = text_encoders(clip)
    if not encoders:
        raise ValueError(
            f"This CLIP ({type(clip.cond_stage_model).__name__}) has no text encoder that learned words can be given "
            "to. Connect the CLIP of the same checkpoint."
        )
    _check_width(name, base, config, encoders)
    if getattr(vae, "latent_channels", channels) != channels:
        raise ValueError(
            f"MODEL and VAE do not belong together: the model wants {channels} latent channels, this VAE gives "
            f"{vae.latent_channels}. Connect both from the same checkpoint."
        )
    return Family(
        name,
        encoders,
        channels,
        joins_captions=len(encoders) == 1 and type(base) is model_base.BaseModel and not base.adm_channels,
        adds_in_place=type(base) is model_base.Flux,
        guidance=_guidance(base),
    )


def noise_schedule(sampling: Any) -> NoiseSchedule:
    """The noise levels and the target of a model, from the object that the host samples with."""
    if getattr(sampling, "noise_scale", 1.0) != 1.0:
        raise ValueError("This MODEL samples with scaled noise (noise_scale), which training does not know.")
    sigmas = sampling.sigmas.detach().float().cpu().clone()
    prediction: Prediction = "epsilon"
    if isinstance(sampling, model_sampling.V_PREDICTION):  # a subclass of EPS, so it is asked for first
        prediction = "v_prediction"
    elif isinstance(sampling, model_sampling.X0):
        prediction = "sample"
    elif isinstance(sampling, model_sampling.CONST):
        prediction = "flow"
    return NoiseSchedule(sigmas, prediction, float(getattr(sampling, "sigma_data", 1.0)))


def _flux_inputs(unet: Any, channels: int) -> int:
    patch = getattr(unet, "patch_size", 2) ** 2
    layer = getattr(unet, "img_in", None)
    return channels if layer is None else int(layer.in_features) // patch


def _check_width(name: str, base: Any, config: Mapping[str, Any], encoders: Mapping[str, TextEncoder]) -> None:
    """The width of the text that the model reads is that of its encoders side by side; flow models project it."""
    if type(base) in (model_base.SD3, model_base.Flux):
        wanted = {"clip_l", "t5xxl"} if type(base) is model_base.Flux else {"clip_l", "clip_g"}
        if not wanted & encoders.keys() or encoders.keys() - {"clip_l", "clip_g", "t5xxl"}:
            raise ValueError(
                f"MODEL and CLIP do not belong together: the model ({name}) reads {' and '.join(sorted(wanted))}, this "
                f"CLIP holds {', '.join(encoders)}. Connect both from the same checkpoint."
            )
        return
    width, wanted_width = sum(encoder.width for encoder in encoders.values()), config.get("context_dim")
    if width != wanted_width:
        found = " + ".join(f"{encoder.width} ({key})" for key, encoder in encoders.items())
        raise ValueError(
            f"MODEL and CLIP do not belong together: the model ({name}) wants text of width {wanted_width}, this CLIP "
            f"gives {found}. Connect both from the same checkpoint."
        )


def _guidance(base: Any) -> float:
    known = getattr(base, GUIDANCE_ATTRIBUTE, None)
    if known is not None:
        return float(known)
    # Flux is guided by a number that it was trained with; the host's default for it serves.
    return {model_base.Flux: 1.0, model_base.SD3: 5.0}.get(type(base), 7.0)
