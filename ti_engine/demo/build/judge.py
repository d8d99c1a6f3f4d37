"""Stage 2: the judge, on drawn scenes of every combination, and on objects that no words describe."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional as F

from ..judge import HEADS, Judge
from ..world import (
    BACKGROUNDS,
    COLOUR_RGB,
    COLOURS,
    RELATIONS,
    SHAPES,
    STYLES,
    TEXTURES,
    Objects,
    attribute_objects,
    draw_scenes,
)

_UNLABELLED = -100  # cross_entropy's ignore_index


def train_judge(seconds: float, autoencoder: AutoencoderTiny, seed: int = 1, start_from: Judge | None = None) -> Judge:
    """Train until `seconds` are over. Some pictures pass the autoencoder, so that its traces do not mislead."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    judge: Any = start_from or Judge()
    judge.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=1e-2)
    start, step = time.monotonic(), 0
    while (progress := (time.monotonic() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * max(0.01, 0.5 * (1 + math.cos(math.pi * progress)))
        pictures, labels, colours = labelled_scenes(64, generator)
        with torch.no_grad():
            if step % 4 == 0:
                half = len(pictures) // 2
                pictures[:half] = (autoencoder.decoder(autoencoder.encoder(pictures[:half] * 2 - 1)) + 1) / 2
            pictures = _augment(pictures, generator).contiguous(memory_format=torch.channels_last)
        guesses = judge(pictures)
        loss = 4 * F.mse_loss(guesses["colours"][: len(colours)], colours)
        for name, label in labels.items():
            if bool((label != _UNLABELLED).any()):
                weight = 3 if name.endswith("shape") else 1  # outlines are what takes longest
                loss = loss + weight * F.cross_entropy(guesses[name], label, ignore_index=_UNLABELLED)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"judge step {step} {progress:.0%} loss {loss.item():.3f}", flush=True)
    return judge.train(False).requires_grad_(False)


@torch.no_grad()
def judge_accuracy(judge: Judge, generator: torch.Generator, batches: int = 16) -> dict[str, float]:
    """Share of right answers per attribute on fresh drawn scenes, where the attribute has a name."""
    right = dict.fromkeys(HEADS, 0)
    labelled = dict.fromkeys(HEADS, 0)
    for _ in range(batches):
        pictures, labels, _ = labelled_scenes(64, generator)
        guesses = judge(pictures)
        for name, label in labels.items():
            known = label != _UNLABELLED
            right[name] += int((guesses[name].argmax(1) == label)[known].sum())
            labelled[name] += int(known.sum())
    return {name: right[name] / max(1, labelled[name]) for name in HEADS}


def labelled_scenes(n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Pictures [n, 3, 128, 128], attribute -> label [n] (-100: has no name), colours of the first half [n/2, 6].

    The first half are photos of objects from the whole continuum (any hue, two colours, outlines between two shapes,
    the unseen texture), the second half are scenes of the vocabulary, in all styles and with two objects too.
    """

    def pick(k: int, count: int) -> Tensor:
        return torch.randint(k, (count,), generator=generator)

    def chance(p: float, count: int) -> Tensor:
        return torch.rand(count, generator=generator) < p

    half = n // 2
    shape, other, texture = pick(len(SHAPES), half), pick(len(SHAPES), half), pick(len(TEXTURES) + 1, half)
    blend = torch.where(chance(0.5, half), 0.3 + 0.4 * torch.rand(half, generator=generator), torch.zeros(half))
    rgb = torch.where(chance(0.5, half)[:, None], torch.rand(half, 3, generator=generator), COLOUR_RGB[pick(8, half)])
    two = chance(0.4, half)
    lower = torch.where(two[:, None], torch.rand(half, 3, generator=generator), rgb)
    wild = Objects(shape, rgb, texture, other, blend, lower)
    background = pick(len(BACKGROUNDS), n)
    pictures = [draw_scenes(wild, background[:half], generator)]

    rest = n - half
    names = pick(len(SHAPES), rest), pick(len(COLOURS), rest), pick(len(TEXTURES), rest)
    second = pick(len(SHAPES), rest), pick(len(COLOURS), rest)
    relation = torch.where(chance(0.25, rest), pick(len(RELATIONS), rest), torch.tensor(-1))
    pair = relation >= 0
    style = torch.where(chance(0.3, rest) & ~pair, pick(len(STYLES), rest), torch.tensor(0))
    first = attribute_objects(names[0], names[1], torch.where(pair, 0, names[2]))
    pictures.append(
        draw_scenes(
            first,
            background[half:],
            generator,
            style,
            attribute_objects(*second, torch.zeros_like(pick(1, rest))),
            relation,
        )
    )

    def joined(wild_labels: Tensor, named_labels: Tensor, labelled: Tensor | None = None) -> Tensor:
        named = named_labels if labelled is None else torch.where(labelled, named_labels, torch.tensor(_UNLABELLED))
        return torch.cat([wild_labels, named])

    unnamed, one = torch.full((half,), _UNLABELLED), torch.zeros(half, dtype=torch.long)
    coloured = (style == 0) | (style == 2)
    labels = {
        "shape": joined(torch.where(blend > 0, torch.tensor(_UNLABELLED), shape), names[0]),
        "colour": joined(unnamed, names[1], coloured),
        "texture": joined(texture, names[2], ~pair & (style != 2)),
        "background": joined(background[:half], background[half:], coloured),
        "style": joined(one, style),
        "layout": joined(one, relation + 1),
        "second_shape": joined(unnamed, second[0], pair),
        "second_colour": joined(unnamed, second[1], pair),
    }
    return torch.cat(pictures), labels, torch.cat([rgb, lower], 1)


def _augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    n = len(pictures)
    blurred = F.avg_pool2d(F.pad(pictures, (2, 2, 2, 2), mode="reflect"), 5, 1)
    blur = (torch.rand(n, 1, 1, 1, generator=generator) < 0.3).float()
    pictures = blur * blurred + (1 - blur) * pictures
    level = 0.08 * torch.rand(n, 1, 1, 1, generator=generator)
    return pictures + level * torch.randn(pictures.shape, generator=generator)
