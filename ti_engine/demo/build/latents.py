"""What stage 3 trains on: many drawn scenes as latents, each with several captions as tokens."""

from __future__ import annotations

import multiprocessing
import os
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from ..corpus import Scenes, draw_caption, sample_scenes
from ..tokenizer import MAX_LENGTH, DemoTokenizer

CAPTIONS = 8  # of each scene; every batch draws one of them
_DESCRIBED_AT_ONCE = 1024


@dataclass(frozen=True)
class LatentCorpus:
    """latents: [N, 4, 16, 16] in half precision; tokens: [N, CAPTIONS, 32] int16; both on one device."""

    latents: Tensor
    tokens: Tensor

    @property
    def device(self) -> torch.device:
        return self.latents.device

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Latents [count, 4, 16, 16] in float32 and tokens [count, 32] of random scenes with a random caption each."""
        scene = torch.randint(len(self.latents), (count,), device=self.device)
        caption = torch.randint(self.tokens.shape[1], (count,), device=self.device)
        return self.latents[scene].float(), self.tokens[scene, caption].long()


def draw_corpus(autoencoder: AutoencoderTiny, count: int, device: torch.device, seed: int = 2) -> LatentCorpus:
    """`count` training scenes, a multiple of 1024. Described by all processors, drawn and encoded on `device`."""
    seeds = [1_000_000 * seed + number for number in range(count // _DESCRIBED_AT_ONCE)]
    size = 32 if device.type == "cpu" else 512  # more at once are slower on a CPU: they leave its caches
    latents, tokens = [], []
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        for number, ids in zip(seeds, pool.map(_describe, seeds), strict=True):
            scenes, generator = _scenes(number), torch.Generator(device).manual_seed(number)
            parts = [scenes[start : start + size] for start in range(0, len(scenes), size)]
            latents += [_encode(autoencoder, part, generator) for part in parts]
            tokens.append(torch.from_numpy(ids))
    return LatentCorpus(torch.cat(latents), torch.cat(tokens).to(device))


def tokenize(captions: list[str]) -> Tensor:
    """Token ids [B, 32], padded with the end token and without a mask, as SD1 does."""
    tokenizer = DemoTokenizer()
    rows = [tokenizer(caption)["input_ids"] for caption in captions]
    return torch.tensor([row + [row[-1]] * (MAX_LENGTH - len(row)) for row in rows])


def _scenes(seed: int) -> Scenes:
    return sample_scenes(_DESCRIBED_AT_ONCE, torch.Generator().manual_seed(seed))


def _describe(seed: int) -> Any:
    """Tokens [_DESCRIBED_AT_ONCE, CAPTIONS, 32] of captions for `_scenes(seed)`; an array, to leave the process."""
    scenes, rng = _scenes(seed), random.Random(seed)
    captions = [draw_caption(scenes, index, rng) for index in range(len(scenes)) for _ in range(CAPTIONS)]
    return tokenize(captions).view(len(scenes), CAPTIONS, MAX_LENGTH).short().numpy()


@torch.no_grad()
def _encode(autoencoder: AutoencoderTiny, scenes: Scenes, generator: torch.Generator) -> Tensor:
    pictures = (scenes.draw(generator) * 2 - 1).contiguous(memory_format=torch.channels_last)
    return autoencoder.encoder(pictures).half()
