"""The parts of a pipeline as frozen twins: the pipeline's own code runs on them, and its own parts stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from ..training.backend import EncoderInfo
from .families import PipelineFamily
from .text import TextEncoder

Network = TypeVar("Network", bound=nn.Module)


def text_encoders(pipeline: Any, family: PipelineFamily) -> dict[str, TextEncoder]:
    """Those that the pipeline has, by the engine's key, in its order."""
    encoders = {}
    for key, place in family.encoders.items():
        network, tokenizer = getattr(pipeline, place.network), getattr(pipeline, place.tokenizer)
        if network is not None:
            length = place.length or min(int(network.config.max_position_embeddings), int(tokenizer.model_max_length))
            encoders[key] = TextEncoder(frozen_twin(network), tokenizer, length, family.cuts_texts and not place.length)
    return encoders


def with_twins(pipeline: Any, family: PipelineFamily, network: Any, text: Mapping[str, TextEncoder]) -> Any:
    """The pipeline with the backend's networks and tokenizers in it; the given one stays as it is."""
    models = copy.copy(pipeline)
    parts = vars(models)  # not by attribute, which a pipeline writes into its settings
    parts[family.network] = network
    for key, encoder in text.items():
        place = family.encoders[key]
        parts[place.network], parts[place.tokenizer] = encoder.network, encoder.tokenizer
    return models


def frozen_twin(module: Network) -> Network:
    """A copy that shares the tensors of `module` but has flags of its own: no gradients, no dropout."""
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    shared |= {id(b): b for b in module.buffers()}
    return copy.deepcopy(module, shared).train(False)


def check_shape(family: PipelineFamily, models: Any, encoders: Mapping[str, EncoderInfo]) -> None:
    """ValueError unless the parts are of the family and belong together. models: a pipeline, or LooseParts."""
    network: Any = getattr(models, family.network).config
    autoencoder: Any = getattr(models, family.autoencoder).config
    if network.get("addition_embed_type") != family.added:
        raise ValueError(f"This UNet is not of the family of its pipeline ({family.title}).")
    if autoencoder.get("latents_mean") is not None:
        raise ValueError("The autoencoder scales each channel by its own (latents_mean), which is not known here.")
    # Flux counts the channels of a token, SD3 those of a latent
    channels = network.in_channels * network.get("patch_size", 1) ** 2 // family.patch**2
    latents = autoencoder.latent_channels
    if channels != latents:
        raise ValueError(
            f"The model takes {channels} channels and its pictures have {latents} as latents; models for inpainting, "
            "depth or editing cannot be used here."
        )
    widths = {key: info.width for key, info in encoders.items()}
    if family.flow:
        wanted, width = network.joint_attention_dim, widths.get("t5xxl", network.joint_attention_dim)
    else:
        wanted, width = network.get("cross_attention_dim"), sum(widths.values())
    for taken, given in [(wanted, width), *([] if family.pooled is None else [family.pooled(models)])]:
        if taken != given:
            raise ValueError(
                f"The network takes text of width {taken}, the text encoder gives {given}; they do not belong together."
            )
