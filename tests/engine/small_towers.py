"""Folders with a small CLIP and a small DINOv2, random, as transformers saves them; and a scorer of exact colours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

SIDE = 32  # px of both towers' pictures
_WORDS = ("a", "photo", "of", "on", "the", "beach", "moon", "red")


def write_clip(folder: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, projection_dim=24)
    config = transformers.CLIPConfig(
        text_config=dict(vocab_size=600, max_position_embeddings=64, bos_token_id=0, eos_token_id=1, **shape),
        vision_config=dict(image_size=SIDE, patch_size=8, **shape),
        projection_dim=24,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    merges: list[str] = []
    for word in _WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merge = f"{parts[0]} {parts[1]}"
            parts = [parts[0] + parts[1], *parts[2:]]
            merges += [merge] * (merge not in merges)
            vocabulary += [parts[0]] * (parts[0] not in vocabulary)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    processor = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}, "resample": 3}
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "CLIPImageProcessor", **processor})
    )
    return folder


def write_dino(folder: Path, registers: int = 0) -> Path:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    shape = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=8)
    if registers:
        config = transformers.Dinov2WithRegistersConfig(num_register_tokens=registers, **shape)
        network = transformers.Dinov2WithRegistersModel(config)
    else:
        network = transformers.Dinov2Model(transformers.Dinov2Config(**shape))
    network.save_pretrained(folder)
    processor = {"size": {"shortest_edge": SIDE + 8}, "crop_size": {"height": SIDE, "width": SIDE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


_COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}


class ColourScorer:
    """A picture is its mean colour, a text the colour that it names, a patch a quarter of the picture."""

    name = "colours"

    def embed_pictures(self, pictures: Sequence[Tensor]) -> Tensor:
        return torch.stack([picture.mean((1, 2)) for picture in pictures])

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        named = [next(rgb for word, rgb in _COLOURS.items() if word in text) for text in texts]
        return torch.tensor(named)

    def patch_tokens(self, pictures: Sequence[Tensor]) -> Tensor:
        return torch.stack([torch.nn.functional.adaptive_avg_pool2d(picture, 2).flatten(1).T for picture in pictures])


def plain(*rgb: float, side: int = 16) -> Tensor:
    """A picture [3, side, side] of one colour."""
    return torch.tensor(rgb, dtype=torch.float32)[:, None, None].expand(3, side, side).clone()
