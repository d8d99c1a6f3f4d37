"""What the programs write into embedding files, for the tests of formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ti_engine.files import EmbeddingFile

Read = Callable[..., EmbeddingFile]
SD1 = {768: "clip_l"}
SDXL = {768: "clip_l", 1280: "clip_g"}
LORA = {
    "lora_unet_down_blocks_0.lora_up.weight": torch.ones(4, 2),
    "lora_unet_down_blocks_0.lora_down.weight": torch.ones(2, 4),
    "lora_unet_down_blocks_0.alpha": torch.tensor(2.0),
}


def rows(count: int = 2, width: int = 768, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(count * width)).to(dtype)


def a1111(params: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    given = {"name": "inner", "step": 499, "sd_checkpoint": None, "sd_checkpoint_name": "model"} | fields
    return {"string_to_token": {"*": 265}, "string_to_param": dict(params), **given}


def latent_diffusion(params: Mapping[str, Tensor]) -> dict[str, Any]:
    """F1 with the class its writers use; the reader never builds it."""
    parameters = torch.nn.ParameterDict({key: torch.nn.Parameter(tensor) for key, tensor in params.items()})
    return {"string_to_token": {key: torch.tensor(265) for key in params}, "string_to_param": parameters}


def vectors(file: EmbeddingFile) -> dict[str, Tensor]:
    (word,) = file.words
    return word.embedding.vectors
