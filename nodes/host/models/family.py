"""Which models can be trained, how they differ, and what is said about the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from comfy import model_sampling
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ....ti_engine import NoiseSchedule
from ....ti_engine.method.noise import append_dims
from ....ti_engine.method.prediction import Prediction
from .encoders import TextEncoder, text_encoders
from .known_families import PROVEN, REFUSED, UNPROVEN, Facts

# On a model that knows its own; the demo model does.
GUIDANCE_ATTRIBUTE, RESOLUTION_ATTRIBUTE = "textual_inversion_guidance", "textual_inversion_resolution"


@dataclass(frozen=True)
class Family:
    """What a model is, as far as training has to know.

    name: the host's name for it. facts: in what it differs. encoders: by key, all of them are trained.
    latent_channels: of its autoencoder. film: its latents have frames. inpainting_channels: how many an inpainting
    model reads beside the noisy latents, else 0. joins_captions: one encoder, of which the model reads the token states
    alone, so many captions fit in one pass. guidance: for previews.
    resolution: side in pixels of the pictures that it was trained on, as far as its class tells.
    warnings: what to say about it in the report.
    """

    name: str
    facts: Facts
    encoders: Mapping[str, TextEncoder]
    latent_channels: int
    film: bool
    inpainting_channels: int
    joins_captions: bool
    guidance: float
    resolution: int
    warnings: tuple[str, ...] = ()

    @property
    def adds_in_place(self) -> bool:
        """Whether its blocks overwrite what autograd would have to keep."""
        return self.facts.adds_in_place


def recognise(model: Any, clip: Any, vae: Any) -> Family:
    """The family if all three fit together and it can be trained; ValueError with what was found otherwise."""
    for name, thing in (("model", model), ("clip", clip), ("vae", vae)):
        if thing is None:
            raise ValueError(
                f"The loader gave no {name.upper()}, so the {name} input is empty; the file may not contain one. "
                f"Load it with a node of its own, or choose a full checkpoint."
            )
    base = model.model
    name, kind = type(base.model_config).__name__, type(base).__name__
    facts = PROVEN.get(kind, UNPROVEN)
    dimensions = int(getattr(base.latent_format, "latent_dimensions", 2))
    reason = REFUSED.get(kind)
    if reason is None and (dimensions not in (2, 3) or not hasattr(base, "diffusion_model")):
        reason = "its latents are no pictures"
    if reason is not None:
        raise ValueError(f"This MODEL is a {name}, which cannot learn a word: {reason}.")
    encoders = text_encoders(clip)
    if not encoders:
        raise ValueError(
            f"This CLIP ({type(clip.cond_stage_model).__name__}) has no text encoder that learned words can be given "
            "to. Connect the CLIP of the same checkpoint."
        )
    _check_encoders(name, base, facts, encoders)
    channels = int(getattr(base.latent_format, "latent_channels", 4))
    if getattr(vae, "latent_channels", channels) != channels:
        raise ValueError(
            f"MODEL and VAE do not belong together: the model wants {channels} latent channels, this VAE gives "
            f"{vae.latent_channels}. Connect both from the same checkpoint."
        )
    warnings = []
    if kind not in PROVEN:
        warnings.append(
            f"{name} ({kind}) is not among the families that are proven to train; look at the previews and the loss "
            "before you trust the word."
        )
    unread = [key for key in encoders if facts.reads and key not in facts.reads]
    if unread:
        warnings.append(
            f"{name} does not read {', '.join(unread)}, so that part of the word learns nothing. Load its CLIP without "
            "it, by the type of the model."
        )
    only_cross_attention = kind == "BaseModel" and not base.adm_channels
    return Family(
        name,
        facts,
        encoders,
        channels,
        film=dimensions == 3,
        inpainting_channels=_inpainting_channels(name, base, facts, channels, dimensions),
        joins_captions=len(encoders) == 1 and only_cross_attention,
        guidance=float(getattr(base, GUIDANCE_ATTRIBUTE, facts.guidance)),
        resolution=getattr(base, RESOLUTION_ATTRIBUTE, _resolution(base, facts)),
        warnings=tuple(warnings),
    )


def _resolution(base: Any, facts: Facts) -> int:
    second_sd2 = base.model_config.unet_config.get("context_dim") == 1024 and facts.resolution == 512
    return 768 if second_sd2 and isinstance(base.model_sampling, model_sampling.V_PREDICTION) else facts.resolution


def noise_schedule(sampling: Any) -> NoiseSchedule:
    """The noise levels and the target of a model, from the object that the host samples with.

    Raises ValueError where that object makes noisy latents of another kind, or reads the model's answer as another.
    """
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
    elif isinstance(sampling, model_sampling.COSMOS_RFLOW):
        prediction = "scaled_flow"
    schedule = NoiseSchedule(sigmas, prediction, float(getattr(sampling, "sigma_data", 1.0)))
    if not _agree(schedule, sampling):
        raise ValueError(
            f"This MODEL samples in a way that training does not know ({type(sampling).__bases__[-1].__name__}). If a "
            "node changes its sampling (ModelSampling...), connect the model from before that node."
        )
    return schedule


def _agree(schedule: NoiseSchedule, sampling: Any) -> bool:
    """Whether a perfect answer, put through the host's own arithmetic, gives back the clean latents."""
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 3, 1, 2, 2, generator=generator)
    sigma = schedule.sigmas[torch.tensor([1, 2, 3]) * (len(schedule.sigmas) - 1) // 4]
    noisy = schedule.noisy_latents(latents, noise, sigma)
    level = append_dims(sigma, noise.ndim)
    if not torch.allclose(sampling.noise_scaling(level, noise.clone(), latents), noisy, rtol=1e-3):
        return False
    answer = schedule.target(latents, noise, sigma)
    # Karras et al. write v with the other sign; the squared error is the same.
    estimates = [sampling.calculate_denoised(sigma, sign * answer, noisy) for sign in (1, -1)]
    return any(torch.allclose(clean, latents, rtol=1e-2, atol=1e-2) for clean in estimates)


def _check_encoders(name: str, base: Any, facts: Facts, encoders: Mapping[str, TextEncoder]) -> None:
    """Raises ValueError where the model reads other text encoders than these, or text of another width."""
    if facts.reads:
        if not set(facts.reads) & encoders.keys():
            raise ValueError(
                f"MODEL and CLIP do not belong together: the model ({name}) reads {' or '.join(facts.reads)}, this "
                f"CLIP holds {', '.join(encoders)}. Connect both from the same checkpoint."
            )
        return
    wanted = getattr(base.model_config, "unet_config", {}).get("context_dim")
    width = sum(encoder.width for encoder in encoders.values())
    if wanted is not None and width != wanted:
        found = " + ".join(f"{encoder.width} ({key})" for key, encoder in encoders.items())
        raise ValueError(
            f"MODEL and CLIP do not belong together: the model ({name}) wants text of width {wanted}, this CLIP "
            f"gives {found}. Connect both from the same checkpoint."
        )


def _inpainting_channels(name: str, base: Any, facts: Facts, channels: int, dimensions: int) -> int:
    """Channels that an inpainting model reads beside its noisy latents; 0 for models that take these alone."""
    noise = torch.zeros(1, channels, *[1] * (dimensions - 2), 8, 8)
    concatenated = base.concat_cond(noise=noise, latent_image=noise, device=noise.device)
    width = 0 if concatenated is None else concatenated.shape[1]
    inputs = _input_channels(base)
    if inputs is not None and inputs != channels + width:
        raise ValueError(
            f"This MODEL ({name}) takes more than the noisy picture (it has {inputs} input channels), as models for "
            "depth or editing do; training has nothing to give it there. Train the word on the plain model of its kind."
        )
    # A mask and what lies outside of it: as one channel, or as every pixel of a latent (Flux).
    if width == 0 or facts.empty_channels:
        return 0
    if dimensions == 2 and width in (channels + 1, channels + 64):
        return width
    raise ValueError(
        f"This MODEL ({name}) reads {width} channels of a picture beside the noisy one, as models that edit a "
        "picture or follow one do; training has none to give. Train the word on the plain model of its kind."
    )


def _input_channels(base: Any) -> int | None:
    """How many channels the model takes, where it says so."""
    if isinstance(base.diffusion_model, UNetModel):
        return base.model_config.unet_config.get("in_channels")
    return None  # the others make the channels of `concat_cond` from their own first layer
