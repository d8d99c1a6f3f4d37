"""What the demo model is trained on: scenes with captions, some combinations held out, some looks without a word.

The captions are made of the paper's neutral contexts, attribute words and invented nouns. A noun names one particular
object, often one that no attribute words can spell (a hue between the colours, an outline between two shapes, two
colours, another texture), so the text encoder learns that one token may carry a whole look. That is what a learned word
has to do. Thousands of them fill the space of looks: with 128, words for two-coloured objects could not be learned.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..data.captions import OBJECT_TEMPLATES, STYLE_TEMPLATES
from .concepts import HELD_OUT, UNTOLD, Concept
from .tokenizer import BIASED_NOUN, NUM_NOUNS, SYNONYMS, invented_nouns
from .world import (
    BACKGROUNDS,
    COLOUR_RGB,
    COLOURS,
    RELATIONS,
    SHAPES,
    STYLES,
    TEXTURES,
    UNNAMED_TEXTURES,
    Objects,
    attribute_objects,
    draw_scenes,
)

_TRAINED = torch.tensor(
    [
        (s, c, t)
        for s in range(len(SHAPES))
        for c in range(len(COLOURS))
        for t in range(len(TEXTURES))
        if (s, c, t) not in set(HELD_OUT)
    ]
)
_NO_NOUN, _BERRY = -1, NUM_NOUNS


@dataclass(frozen=True)
class Scenes:
    """Attributes of N scenes, all [N] long: everything a caption can say and the judge can be asked."""

    shape: Tensor
    colour: Tensor
    texture: Tensor
    background: Tensor
    style: Tensor
    noun: Tensor  # -1: none; NUM_NOUNS: the biased noun; else index into the invented nouns
    relation: Tensor  # -1: a single object; else index into RELATIONS, and the three below describe the other object
    second_shape: Tensor
    second_colour: Tensor

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, rows: slice) -> Scenes:
        return Scenes(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def draw(self, generator: torch.Generator) -> Tensor:
        """Pictures [N, 3, 128, 128] in 0..1, on the generator's device."""
        device = generator.device
        named = (self.noun >= 0) & (self.noun < NUM_NOUNS)
        nouns = noun_objects()[self.noun.clamp(0, NUM_NOUNS - 1)]
        first = attribute_objects(self.shape, self.colour, self.texture).where(~named, nouns)
        second = attribute_objects(self.second_shape, self.second_colour, torch.zeros_like(self.texture))
        background, style, relation = (t.to(device) for t in (self.background, self.style, self.relation))
        return draw_scenes(first.to(device), background, generator, style, second.to(device), relation)


@functools.cache
def noun_objects() -> Objects:
    """The objects that the invented nouns name, always the same ones; none looks like what is kept from training."""
    generator = torch.Generator().manual_seed(7)
    n = NUM_NOUNS

    def chance(p: float) -> Tensor:
        return torch.rand(n, generator=generator) < p

    def pick(k: int) -> Tensor:
        return torch.randint(k, (n,), generator=generator)

    shape, other = pick(len(SHAPES)), pick(len(SHAPES))
    blend = torch.where(chance(0.5), 0.35 + 0.3 * torch.rand(n, generator=generator), torch.zeros(n))
    wild = torch.rand(n, 3, generator=generator)
    rgb = torch.where(chance(0.6)[:, None], wild, COLOUR_RGB[pick(len(COLOURS))])
    lower = torch.where(chance(0.5)[:, None], torch.rand(n, 3, generator=generator), COLOUR_RGB[pick(len(COLOURS))])
    lower = torch.where(chance(0.35)[:, None], lower, rgb)
    textures = torch.tensor([0, 1, 2, 3, *UNNAMED_TEXTURES])
    texture = torch.where(chance(0.35), torch.zeros(n, dtype=torch.long), textures[pick(len(textures))])
    objects = Objects(shape, rgb, texture, other, blend, lower)
    near = torch.stack([_looks_like(objects, concept) for concept in UNTOLD]).any(0)
    elsewhere = torch.tensor(UNNAMED_TEXTURES)[torch.arange(n) % len(UNNAMED_TEXTURES)]
    return replace(objects, texture=torch.where(near, elsewhere, texture))


def _looks_like(objects: Objects, concept: Concept) -> Tensor:
    """[N] bool: objects that share an outline, the texture and roughly the colours (within 0.25) of `concept`."""
    blended = (objects.other_shape == concept.shape) & (objects.blend > 0)
    upper, lower = torch.tensor(concept.rgb), torch.tensor(concept.lower_rgb or concept.rgb)
    close = ((objects.rgb - upper).norm(dim=1) < 0.25) & ((objects.lower_rgb - lower).norm(dim=1) < 0.25)
    return ((objects.shape == concept.shape) | blended) & (objects.texture == concept.texture) & close


def sample_scenes(n: int, generator: torch.Generator) -> Scenes:
    """Scenes of the training distribution. No single object has a held-out combination of attributes."""

    def chance(p: float) -> Tensor:
        return torch.rand(n, generator=generator) < p

    def pick(k: int) -> Tensor:
        return torch.randint(k, (n,), generator=generator)

    triple = _TRAINED[pick(len(_TRAINED))]
    shape, colour, texture = triple.unbind(1)
    relation = torch.where(chance(0.14), pick(len(RELATIONS)), torch.tensor(-1))
    pair = relation >= 0
    noun = torch.where(chance(0.35) & ~pair, pick(NUM_NOUNS), torch.tensor(_NO_NOUN))
    berry = chance(0.03) & ~pair & (noun < 0)
    noun = torch.where(berry, torch.tensor(_BERRY), noun)
    shape = torch.where(berry, torch.tensor(0), shape)
    colour = torch.where(berry & chance(0.9), torch.tensor(0), colour)
    texture = torch.where(berry | pair, torch.tensor(0), texture)
    style = torch.where(chance(0.16) & ~pair, 1 + pick(len(STYLES) - 1), torch.tensor(0))
    return Scenes(
        shape, colour, texture, pick(len(BACKGROUNDS)), style, noun, relation, pick(len(SHAPES)), pick(len(COLOURS))
    )


def single_scenes(triples: list[tuple[int, int, int]], background: Tensor) -> Scenes:
    """Photos of single objects given as (shape, colour, texture), one for each entry of `background` [N]."""
    shape, colour, texture = torch.tensor(triples).unbind(1)
    zero, none = torch.zeros_like(shape), torch.full_like(shape, -1)
    return Scenes(shape, colour, texture, background, zero, none, none, zero, zero)


def full_caption(scenes: Scenes, index: int) -> str:
    """The caption that names everything, with no chance in it."""
    if scenes.relation[index] >= 0:
        first = f"{COLOURS[scenes.colour[index]]} {SHAPES[scenes.shape[index]]}"
        second = f"{COLOURS[scenes.second_colour[index]]} {SHAPES[scenes.second_shape[index]]}"
        phrase = f"{first} {RELATIONS[scenes.relation[index]]} a {second}"
    else:
        phrase = f"{TEXTURES[scenes.texture[index]]} {COLOURS[scenes.colour[index]]} {SHAPES[scenes.shape[index]]}"
    text = f"a photo of a {phrase} on a {BACKGROUNDS[scenes.background[index]]} background"
    style = int(scenes.style[index])
    return text if style == 0 else f"{text} in the style of {STYLES[style]}"


def draw_caption(scenes: Scenes, index: int, rng: random.Random) -> str:
    """A caption of scene `index` as training sees it: any context, synonyms, words left out, now and then nothing."""
    if rng.random() < 0.10:
        return ""  # the unconditional half of classifier-free guidance
    style = int(scenes.style[index])
    if style and rng.random() < 0.3:
        return rng.choice(STYLE_TEMPLATES).format(STYLES[style])
    phrase = _object_phrase(scenes, index, rng)
    template = "a photo of {}" if rng.random() < 0.10 else rng.choice(OBJECT_TEMPLATES)
    text = template.format(phrase)
    if rng.random() < 0.8:
        comma = " ," if rng.random() < 0.04 else ""
        text += f"{comma} on a {_say(BACKGROUNDS[scenes.background[index]], rng)} background"
    if style:
        text += f" in the style of {STYLES[style]}"
    return text + " ." if rng.random() < 0.04 else text


def _say(word: str, rng: random.Random) -> str:
    return SYNONYMS[word] if rng.random() < 0.12 else word


def _object_phrase(scenes: Scenes, index: int, rng: random.Random) -> str:
    shape, colour, texture = (int(getattr(scenes, f)[index]) for f in ("shape", "colour", "texture"))
    noun, relation = int(scenes.noun[index]), int(scenes.relation[index])
    if noun == _BERRY:
        return f"{_say(COLOURS[colour], rng)} {BIASED_NOUN}" if rng.random() < 0.3 else BIASED_NOUN
    if noun >= 0:
        return invented_nouns()[noun]
    if relation >= 0:
        second = f"{_say(COLOURS[scenes.second_colour[index]], rng)} {_say(SHAPES[scenes.second_shape[index]], rng)}"
        return f"{_say(COLOURS[colour], rng)} {_say(SHAPES[shape], rng)} {RELATIONS[relation]} a {second}"
    words = []
    if rng.random() > 0.08:
        words.append(_say(TEXTURES[texture], rng))
    if rng.random() > 0.05:
        words.append(_say(COLOURS[colour], rng))
    words.append(_say(SHAPES[shape], rng) if rng.random() > 0.03 else "object")
    if rng.random() < 0.01:
        words.insert(0, "zzz")  # so that the row of unknown words is trained too
    return " ".join(words)
