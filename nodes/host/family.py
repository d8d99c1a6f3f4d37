"""Which models can be trained, and what is said about the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy import model_sampling
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.sd1_clip import SDClipModel, SDTokenizer

from ...ti_engine import NoiseSchedule
from ...ti_engine.noise import Prediction
from .prompt import sub_tokenizers

_SUPPORTED = (
    "Models of Stable Diffusion 1's shape can be trained (one CLIP-L text encoder, a UNet with 4 latent channels)"
)


@dataclass(frozen=True)
class TextEncoder:
    """The one text encoder of an SD1-shaped CLIP: its key, its tokenizer and its network."""

    key: str
    tokenizer: SDTokenizer
    network: SDClipModel

    @property
    def width(self) -> int:
        return int(self.network.transformer.get_input_embeddings().weight.shape[1])


def check_trainable(model: Any, clip: Any, vae: Any) -> TextEncoder:
    """The text encoder if all three fit together and have SD1's shape; ValueError with what was found otherwise."""
    for name, thing in (("model", model), ("clip", clip), ("vae", vae)):
        if thing is None:
            raise ValueError(
                f"The loader gave no {name.upper()}, so the {name} input is empty; the file may not contain one. "
                f"Load it with a node of its own, or choose a full checkpoint."
            )
    unet = getattr(model.model, "diffusion_model", None)
    config = getattr(model.model.model_config, "unet_config", {})
    family = type(model.model.model_config).__name__
    latent_channels = getattr(model.model.latent_format, "latent_channels", 4)
    is_sd1 = isinstance(unet, UNetModel) and config.get("adm_in_channels") is None and config.get("num_classes") is None
    if not is_sd1 or latent_channels != 4 or config.get("in_channels") != 4:
        raise ValueError(
            f"{_SUPPORTED}; this MODEL is a {family} with {config.get('in_channels', '?')} input channels."
        )
    tokenizers = sub_tokenizers(clip)
    networks = [m for m in clip.cond_stage_model.children() if isinstance(m, SDClipModel)]
    if list(tokenizers) != ["clip_l"] or len(networks) != 1:
        found = ", ".join(tokenizers) or type(clip.tokenizer).__name__
        raise ValueError(f"{_SUPPORTED}; this CLIP holds {found}. Connect the CLIP of the same checkpoint.")
    encoder = TextEncoder("clip_l", tokenizers["clip_l"], networks[0])
    if encoder.width != config.get("context_dim"):
        raise ValueError(
            f"MODEL and CLIP do not belong together: the model ({family}) wants text of width "
            f"{config.get('context_dim')}, this CLIP gives {encoder.width}. Connect both from the same checkpoint."
        )
    if getattr(vae, "latent_channels", 4) != 4:
        raise ValueError(
            f"MODEL and VAE do not belong together: the model wants 4 latent channels, this VAE gives "
            f"{vae.latent_channels}. Connect both from the same checkpoint."
        )
    return encoder


def noise_schedule(sampling: Any) -> NoiseSchedule:
    """The noise levels and the target of a model, from the object that the host samples with."""
    sigmas = sampling.sigmas.detach().float().cpu().clone()
    prediction: Prediction = "epsilon"
    if isinstance(sampling, model_sampling.V_PREDICTION):  # a subclass of EPS, so it is asked for first
        prediction = "v_prediction"
    elif isinstance(sampling, model_sampling.X0):
        prediction = "sample"
    elif isinstance(sampling, model_sampling.CONST):
        prediction = "flow"
    return NoiseSchedule(sigmas, prediction, float(getattr(sampling, "sigma_data", 1.0)))
