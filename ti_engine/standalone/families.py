"""The families of diffusers pipelines: where their parts are, how they read text, and how their networks are called.

Texts become conditioning by the pipeline's own `encode_prompt`; the pipelines that have none, or may be loose parts,
give the first output of their only encoder. `models` is a pipeline whose networks and tokenizers are the backend's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..word.families import and_list

Conditions = Mapping[str, Tensor]


@dataclass(frozen=True)
class EncoderPlace:
    """Names of a text encoder and its tokenizer in the pipeline.

    length: tokens of a text; None: the tokenizer's. optional: the pipeline takes zeros where it is not there.
    """

    network: str
    tokenizer: str
    length: int | None = None
    optional: bool = False


@dataclass(frozen=True)
class PipelineFamily:
    """What training and sampling have to know of a kind of pipeline.

    package: where diffusers keeps it. encoders: by the engine's key, in the pipeline's order; some may be absent.
    encode: texts -> tensors [N, ...] that the network reads. predict: (models, noisy latents [B, C, h, w], time [B],
    those tensors, guidance [B]) -> the network's answer; time is the step for a UNet, the noise level for flow.
    guidance: for pictures; `negative`: against the empty text, else it is a number that the network reads.
    pooled: the width of a text's pooled vector, as the network takes it and as the text encoders give it.
    patch: latents of a side that become one token. added: the network's `addition_embed_type`. left_out: parts that
    are not loaded.
    """

    title: str
    package: str
    encoders: Mapping[str, EncoderPlace]
    encode: Callable[[Any, list[str]], dict[str, Tensor]]
    predict: Callable[[Any, Tensor, Tensor, Conditions, Tensor], Tensor]
    guidance: float
    network: str = "unet"
    autoencoder: str = "vae"
    flow: bool = False
    negative: bool = True
    patch: int = 1
    added: str | None = None
    pooled: Callable[[Any], tuple[int, int]] | None = None
    left_out: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needed(self) -> list[str]:
        """Names of the parts that a pipeline of this kind cannot do without."""
        places = [place for place in self.encoders.values() if not place.optional]
        texts = [name for place in places for name in (place.network, place.tokenizer)]
        return [self.network, self.autoencoder, *texts, "scheduler"]

    @property
    def cuts_texts(self) -> bool:
        """Whether CLIP's short texts are cut: where T5 reads them in full."""
        return "t5xxl" in self.encoders


@dataclass
class LooseParts:
    """Models of SD1's shape that are in no pipeline. tokenizer: a CLIPTokenizer or the demo's."""

    unet: Any
    text_encoder: Any
    tokenizer: Any
    vae: Any
    scheduler: Any


def _encode_by_the_only(models: Any, texts: list[str], name: str = "text_encoder") -> dict[str, Tensor]:
    encoder, tokens = getattr(models, name), models.tokenizer(texts)
    mask = tokens.attention_mask.to(encoder.device) if getattr(encoder.config, "use_attention_mask", False) else None
    return {"hidden": encoder(tokens.input_ids.to(encoder.device), attention_mask=mask)[0]}


def _encode_sdxl(models: Any, texts: list[str]) -> dict[str, Tensor]:
    hidden, _, pooled, _ = models.encode_prompt(texts, device=models.unet.device, do_classifier_free_guidance=False)
    return {"hidden": hidden, "pooled": pooled}


def _encode_sd3(models: Any, texts: list[str]) -> dict[str, Tensor]:
    hidden, _, pooled, _ = models.encode_prompt(
        texts,
        None,
        None,
        device=models.transformer.device,
        do_classifier_free_guidance=False,
        max_sequence_length=SD3.encoders["t5xxl"].length,
    )
    return {"hidden": hidden, "pooled": pooled}


def _encode_flux(models: Any, texts: list[str]) -> dict[str, Tensor]:
    hidden, pooled, _ = models.encode_prompt(
        texts, device=models.transformer.device, max_sequence_length=FLUX.encoders["t5xxl"].length
    )
    return {"hidden": hidden, "pooled": pooled}


def _predict_sd(models: Any, noisy: Tensor, time: Tensor, cond: Conditions, guidance: Tensor) -> Tensor:
    return models.unet(noisy, time, encoder_hidden_states=cond["hidden"]).sample


def _predict_sdxl(models: Any, noisy: Tensor, time: Tensor, cond: Conditions, guidance: Tensor) -> Tensor:
    pooled = cond["pooled"]
    size = tuple(models.vae_scale_factor * side for side in noisy.shape[2:])
    sizes = models._get_add_time_ids(size, (0, 0), size, noisy.dtype, text_encoder_projection_dim=pooled.shape[-1])
    added = {"text_embeds": pooled, "time_ids": sizes.to(noisy.device).expand(len(noisy), -1)}
    return models.unet(noisy, time, encoder_hidden_states=cond["hidden"], added_cond_kwargs=added).sample


def _predict_sd3(models: Any, noisy: Tensor, time: Tensor, cond: Conditions, guidance: Tensor) -> Tensor:
    steps = models.scheduler.config.num_train_timesteps
    return models.transformer(
        noisy, timestep=time * steps, encoder_hidden_states=cond["hidden"], pooled_projections=cond["pooled"]
    ).sample


def _predict_flux(models: Any, noisy: Tensor, time: Tensor, cond: Conditions, guidance: Tensor) -> Tensor:
    high, wide = (side // 2 for side in noisy.shape[2:])
    grid = torch.meshgrid(*(torch.arange(count) for count in (1, high, wide)), indexing="ij")
    out = models.transformer(
        F.pixel_unshuffle(noisy, 2).flatten(2).transpose(1, 2),  # a token is a patch of 2 x 2 latents
        timestep=time.to(noisy.dtype),
        encoder_hidden_states=cond["hidden"],
        pooled_projections=cond["pooled"],
        guidance=guidance if models.transformer.config.guidance_embeds else None,
        img_ids=torch.stack(grid, -1).flatten(0, 2).to(noisy),
        txt_ids=torch.zeros(cond["hidden"].shape[1], 3).to(noisy),
    ).sample
    return F.pixel_shuffle(out.transpose(1, 2).unflatten(2, (high, wide)), 2)


def _pooled_sdxl(models: Any) -> tuple[int, int]:
    """The network takes it together with six numbers for sizes."""
    config = models.unet.config
    taken = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    return taken, models.text_encoder_2.config.projection_dim


def _pooled_sd3(models: Any) -> tuple[int, int]:
    given = models.text_encoder.config.projection_dim + models.text_encoder_2.config.projection_dim
    return models.transformer.config.pooled_projection_dim, given


def _pooled_flux(models: Any) -> tuple[int, int]:
    return models.transformer.config.pooled_projection_dim, models.text_encoder.config.hidden_size


_NO_IMAGE_PROMPT: dict[str, Any] = dict(image_encoder=None, feature_extractor=None)
CLIP_1 = EncoderPlace("text_encoder", "tokenizer")
CLIP_2 = EncoderPlace("text_encoder_2", "tokenizer_2")

SD1 = PipelineFamily(
    "SD1 shape",
    "stable_diffusion",
    {"clip_l": CLIP_1},
    _encode_by_the_only,
    _predict_sd,
    guidance=7.5,
    left_out=dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False),
)
SD2 = replace(SD1, title="SD2", encoders={"clip_h": CLIP_1})
SDXL = PipelineFamily(
    "SDXL",
    "stable_diffusion_xl",
    {"clip_l": CLIP_1, "clip_g": CLIP_2},
    _encode_sdxl,
    _predict_sdxl,
    guidance=5.0,
    added="text_time",
    pooled=_pooled_sdxl,
    left_out=_NO_IMAGE_PROMPT,
)
SD3 = PipelineFamily(
    "SD3",
    "stable_diffusion_3",
    {"clip_l": CLIP_1, "clip_g": CLIP_2, "t5xxl": EncoderPlace("text_encoder_3", "tokenizer_3", 256, optional=True)},
    _encode_sd3,
    _predict_sd3,
    guidance=7.0,
    network="transformer",
    flow=True,
    patch=2,
    pooled=_pooled_sd3,
    left_out=_NO_IMAGE_PROMPT,
)
FLUX = PipelineFamily(
    "Flux.1",
    "flux",
    {"clip_l": CLIP_1, "t5xxl": EncoderPlace("text_encoder_2", "tokenizer_2", 512)},
    _encode_flux,
    _predict_flux,
    guidance=3.5,
    network="transformer",
    flow=True,
    negative=False,
    patch=2,
    pooled=_pooled_flux,
    left_out=_NO_IMAGE_PROMPT,
)
LDM = PipelineFamily(
    "the first latent diffusion model",
    "latent_diffusion",
    {"bert": EncoderPlace("bert", "tokenizer", 77)},
    partial(_encode_by_the_only, name="bert"),
    _predict_sd,
    guidance=6.0,
    autoencoder="vqvae",
)
BY_CLASS: Mapping[str, PipelineFamily] = {
    "StableDiffusionPipeline": SD1,
    "StableDiffusionXLPipeline": SDXL,
    "StableDiffusion3Pipeline": SD3,
    "FluxPipeline": FLUX,
    "LDMTextToImagePipeline": LDM,
}
"""Name of the pipeline's class -> its family; SD2 is SD1 with a wider text encoder."""


def family_of(models: Any) -> PipelineFamily:
    """The family of a pipeline, or of LooseParts; ValueError for another pipeline."""
    name = type(models).__name__
    family = SD1 if isinstance(models, LooseParts) else BY_CLASS.get(name)
    if family is None:
        raise ValueError(f"{name} cannot be used here; {and_list(list(BY_CLASS))} can.")
    width = models.text_encoder.config.hidden_size if family is SD1 else 0
    return SD2 if width == 1024 else family
