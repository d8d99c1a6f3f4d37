"""Many pictures with the models of the graph, to compare words by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import comfy.model_management as memory
import comfy.utils
import torch
from torch import Tensor

from ...ti_engine import TokenEmbedding
from .latents import encode_latents
from .models.demo import suitable_threads
from .models.family import recognise
from .sampling import sample_picture
from .text.words import vectors_for

_STEPS = 20


def draw_pictures(
    model: Any, clip: Any, vae: Any, wanted: Sequence[tuple[str, TokenEmbedding]], seed: int, resolution: int
) -> list[Tensor]:
    """A picture [3, H, W] in 0..1 for each (prompt, word in it), all from the same noise.

    resolution: side in pixels; 0: that of the model. Raises ValueError for models that do not belong together and words
    that do not fit them, and between two pictures the host's interrupt. The models stay as they are.
    """
    family = recognise(model, clip, vae)
    fitting = [(prompt, replace(word, vectors=vectors_for(clip, word))) for prompt, word in wanted]
    resolution = resolution or family.resolution
    bar, pictures = comfy.utils.ProgressBar(len(fitting)), []
    with suitable_threads(model):
        shape = encode_latents(vae, family, torch.zeros(1, 3, resolution, resolution)).shape[1:]
        for prompt, word in fitting:
            memory.throw_exception_if_processing_interrupted()
            pictures.append(sample_picture(model, clip, vae, prompt, word, seed, shape, _STEPS, family.guidance))
            bar.update_absolute(len(pictures))
    return pictures
