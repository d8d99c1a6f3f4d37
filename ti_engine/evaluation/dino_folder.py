"""DINO and DINOv2 from a folder: pictures alone, learned without any text, and patches that know their part."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .model_folder import check_folder, load_network, read_settings
from .preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, read_preprocessing

_AT_ONCE = 16  # pictures
_KINDS = ("dinov2", "dinov2_with_registers", "vit")  # the first DINO was saved as a plain ViT
_PREPARED = Preprocessing(256, 224, IMAGENET_MEAN, IMAGENET_STD)


class DinoFolder:
    """A Scorer over transformers' DINO and DINOv2. The weights are read when they are first needed.

    A picture's vector is its class token after the last normalisation. Raises ValueError or FileNotFoundError with one
    sentence for a folder that holds none of them.
    """

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        self._folder, self._device = Path(folder), device
        config = check_folder(self._folder, _KINDS, "a DINO or DINOv2")
        # A ViT is made with a pooler, which is not used here, and which the first DINO may have been saved without.
        self._options = {"add_pooling_layer": False} if config["model_type"] == "vit" else {}
        self._first_patch = 1 + int(config.get("num_register_tokens") or 0)
        settings = read_settings(self._folder / "preprocessor_config.json") or {}
        self._prepare = read_preprocessing(settings, _PREPARED, self._folder.name)
        self.name = f"DINO {self._folder.resolve().name}"

    def embed_pictures(self, pictures: Sequence[Tensor]) -> Tensor:
        return self._tokens(pictures)[:, 0]

    def embed_texts(self, texts: Sequence[str]) -> None:
        return None

    def patch_tokens(self, pictures: Sequence[Tensor]) -> Tensor:
        return self._tokens(pictures)[:, self._first_patch :]

    @torch.no_grad()
    def _tokens(self, pictures: Sequence[Tensor]) -> Tensor:
        parts = [self._prepare(pictures[i : i + _AT_ONCE]) for i in range(0, len(pictures), _AT_ONCE)]
        return torch.cat([self._network(pixel_values=part.to(self._device)).last_hidden_state.cpu() for part in parts])

    @functools.cached_property
    def _network(self) -> Any:
        from transformers import AutoModel

        return load_network(self._folder, AutoModel, self._device, **self._options)
