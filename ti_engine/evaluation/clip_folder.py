"""CLIP from a folder, as transformers saves a CLIPModel: pictures and texts in one space."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .model_folder import check_folder, load_network, read_settings
from .preprocessing import Preprocessing, read_preprocessing

_AT_ONCE = 16  # pictures
_WHAT = "a CLIP with both towers"


class ClipFolder:
    """A Scorer over transformers' CLIPModel. The weights are read when they are first needed.

    Raises ValueError or FileNotFoundError with one sentence for a folder that holds no whole CLIP.
    """

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        self._folder, self._device = Path(folder), device
        config = check_folder(self._folder, ("clip",), _WHAT)
        vocabulary = [self._folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt")]
        there = [file.is_file() for file in vocabulary]
        if not (there[0] or all(there[1:])):
            raise ValueError(
                f"{self._folder.name} has no tokenizer; copy tokenizer.json, or vocab.json and merges.txt, into it."
            )
        side = int((config.get("vision_config") or {}).get("image_size", 224))
        settings = read_settings(self._folder / "preprocessor_config.json") or {}
        self._prepare = read_preprocessing(settings, Preprocessing(side, side), self._folder.name)
        self.name = f"CLIP {self._folder.resolve().name}"

    @torch.no_grad()
    def embed_pictures(self, pictures: Sequence[Tensor]) -> Tensor:
        parts = (self._vision(pictures[i : i + _AT_ONCE]).pooler_output for i in range(0, len(pictures), _AT_ONCE))
        return torch.cat([self._network.visual_projection(part).cpu() for part in parts])

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        tokens = self._tokenizer(list(texts), padding=True, return_tensors="pt")
        longest, limit = tokens["input_ids"].shape[1], self._network.config.text_config.max_position_embeddings
        if longest > limit:
            text = max(texts, key=len)
            raise ValueError(f"The text {text!r} has {longest} tokens, and CLIP reads {limit}; shorten it.")
        pooled = self._network.text_model(**tokens.to(self._device)).pooler_output
        return self._network.text_projection(pooled).cpu()

    @torch.no_grad()
    def patch_tokens(self, pictures: Sequence[Tensor]) -> Tensor:
        """Of the last layer, without the class token."""
        parts = (self._vision(pictures[i : i + _AT_ONCE]) for i in range(0, len(pictures), _AT_ONCE))
        return torch.cat([part.last_hidden_state[:, 1:].cpu() for part in parts])

    def _vision(self, pictures: Sequence[Tensor]) -> Any:
        return self._network.vision_model(pixel_values=self._prepare(pictures).to(self._device))

    @functools.cached_property
    def _network(self) -> Any:
        from transformers import CLIPModel

        return load_network(self._folder, CLIPModel, self._device)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        try:
            return CLIPTokenizer.from_pretrained(str(self._folder), local_files_only=True)
        except Exception as error:  # as in load_network
            raise ValueError(f"The tokenizer in {self._folder.name} cannot be read; fetch its files again.") from error
