"""Concepts to learn: looks that the demo model has never been told a word for.

Two groups. COMBINATIONS can be spelt with three words, but their combination was held out of training. BEYOND cannot
be spelt: hues between the colours, outlines between two shapes, two colours in one object, a texture never seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .world import BACKGROUNDS, COLOUR_RGB, COLOURS, SHAPES, TEXTURES, UNSEEN_TEXTURE, Objects, draw_scenes

# (shape, colour, texture) triples kept out of training: four per shape, one per texture, every colour equally often.
HELD_OUT = [(s, (s + 2 * t + t % 2) % len(COLOURS), t) for s in range(len(SHAPES)) for t in range(len(TEXTURES))]


@dataclass(frozen=True)
class Concept:
    """One look. `caption` is the best that a person can say about it, `word` its coarse class to start from."""

    name: str
    caption: str
    word: str
    shape: int
    rgb: tuple[float, float, float]
    texture: int = 0
    other_shape: int | None = None
    blend: float = 0.0
    lower_rgb: tuple[float, float, float] | None = None

    def pictures(self, background: Tensor, generator: torch.Generator) -> Tensor:
        """Fresh photos [N, 3, 128, 128] of it, one on each of `background` [N] (index into BACKGROUNDS)."""
        n = len(background)
        rgb = torch.tensor(self.rgb).expand(n, 3)
        lower = rgb if self.lower_rgb is None else torch.tensor(self.lower_rgb).expand(n, 3)
        other = self.shape if self.other_shape is None else self.other_shape
        index = [torch.full((n,), value) for value in (self.shape, self.texture, other)]
        objects = Objects(index[0], rgb, index[1], index[2], torch.full((n,), self.blend), lower)
        return draw_scenes(objects, background, generator)

    def training_pictures(self, seed: int, count: int = 4) -> Tensor:
        """The `count` pictures [count, 3, 128, 128] that seed number `seed` learns from, on different backgrounds."""
        generator = torch.Generator().manual_seed(1000 + seed)
        background = torch.randperm(len(BACKGROUNDS), generator=generator)[:count]
        return self.pictures(background, generator)


def _combination(shape: int, colour: int, texture: int) -> Concept:
    name = f"{TEXTURES[texture]} {COLOURS[colour]} {SHAPES[shape]}"
    red, green, blue = COLOUR_RGB[colour].tolist()
    return Concept(name, name, SHAPES[shape], shape, (red, green, blue), texture)


_SPELLABLE = tuple(_combination(*triple) for triple in HELD_OUT)
COMBINATIONS = tuple(_SPELLABLE[4 * shape + shape % 4] for shape in range(len(SHAPES)))

_PINK, _YELLOW = (0.98, 0.50, 0.78), (0.97, 0.90, 0.12)
BEYOND = (
    Concept("dark teal heart", "plain cyan heart", "heart", 6, (0.05, 0.42, 0.42)),
    Concept("brown striped circle", "striped orange circle", "circle", 0, (0.50, 0.28, 0.12), 1),
    Concept("olive dotted square", "dotted yellow square", "square", 1, (0.50, 0.52, 0.10), 2),
    Concept("circle-diamond, dotted pink", "dotted pink circle", "circle", 0, _PINK, 2, other_shape=7, blend=0.55),
    Concept("star-circle, plain yellow", "plain yellow star", "star", 3, _YELLOW, 0, other_shape=0, blend=0.5),
    Concept("teal over coral heart", "plain cyan heart", "heart", 6, (0.10, 0.50, 0.50), lower_rgb=(0.95, 0.40, 0.35)),
    Concept("red over blue square", "plain red square", "square", 1, (0.85, 0.10, 0.10), lower_rgb=(0.12, 0.25, 0.90)),
    Concept("ringed green diamond", "checkered green diamond", "diamond", 7, (0.10, 0.65, 0.20), UNSEEN_TEXTURE),
)
UNTOLD = (*_SPELLABLE, *BEYOND)  # no caption of the training scenes names one of these
CONCEPTS = {concept.name: concept for concept in (*COMBINATIONS, *BEYOND)}
EXAMPLE = CONCEPTS["teal over coral heart"]
