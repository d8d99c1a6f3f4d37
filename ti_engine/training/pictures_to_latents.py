"""Pictures and captions to the training set of a run: every picture goes through the autoencoder once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..data.captions import CaptionSource, templates_for
from ..data.pictures import prepare_pictures
from ..data.training_set import TrainingSet
from ..word.placeholder import split_at_placeholder
from .backend import FrozenModels
from .config import TrainConfig


def encode_training_set(
    backend: FrozenModels, pictures: Sequence[Tensor], config: TrainConfig, captions: Sequence[str | None] = ()
) -> TrainingSet:
    """Crops, scales and encodes `pictures` ([3, H, W] in 0..1, any sizes), once for all steps.

    captions: one for each picture, or none at all; None where the templates shall serve.
    Raises ValueError for pictures or captions that cannot be learned from.
    """
    if captions and len(captions) != len(pictures):
        raise ValueError(f"There are {len(captions)} captions for {len(pictures)} pictures; give one each or none.")
    templates = templates_for(config.what, config.templates, config.class_noun)
    if config.what != "custom" and any(len(split_at_placeholder(text, config.placeholder)) > 1 for text in templates):
        raise ValueError(
            f"The training captions hold the word {config.placeholder!r} themselves, so it cannot be the new word; "
            "choose a placeholder such as S*."
        )
    source = CaptionSource(config.placeholder, templates, captions)
    batch = prepare_pictures(pictures, config.resolution or backend.resolution)
    if config.flip:
        batch = torch.cat([batch, batch.flip(-1)])
    encoded = backend.encode_pictures(batch)
    if not bool(encoded.mean.isfinite().all() and encoded.deviation.isfinite().all()):
        raise ValueError(
            "The autoencoder (VAE) made NaN or infinity of the pictures: its precision does not hold their numbers. "
            "Load it in float32 or bfloat16."
        )
    return TrainingSet(encoded.mean, encoded.deviation, source, len(pictures), encoded.inpainting)
