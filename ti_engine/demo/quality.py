"""How good a learned word is, measured by the judge: the same thing, and does the rest of the prompt still count?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .concepts import Concept
from .corpus import sample_scenes
from .judge import Judge, judge_pictures
from .world import BACKGROUNDS, COLOUR_RGB, SHAPES, object_colour

Draw = Callable[[Sequence[str], int], Tensor]
"""(prompts, seed) -> pictures [N, 3, 128, 128] in 0..1, one for each prompt."""

PICTURES = 24  # of each kind of prompt; a multiple of the backgrounds


@dataclass(frozen=True)
class Score:
    """Shares in 0..1, higher is better, but for `colour_distance`.

    reconstruction: cosine between the judge's mean features of "a photo of S*" and of fresh renders, both centred.
    colour_distance: between the mean colours of the object's upper and lower half, 0 to sqrt(6).
    attributes: pictures of all prompts in which shape, colour and texture are right; only for nameable concepts.
    background: pictures that show the background that the prompt asks for.
    editability: pictures that show it, and whose features are nearer to this concept than to any other reference.
    """

    reconstruction: float
    colour_distance: float
    attributes: float | None
    background: float
    editability: float


class Scorer:
    """Scores pictures of concepts. Fresh renders, features' mean and the other concepts are drawn once."""

    def __init__(self, judge: Judge, concepts: Sequence[Concept]) -> None:
        self._judge = judge
        generator = torch.Generator().manual_seed(4)
        scenes = torch.cat([sample_scenes(64, generator).draw(generator) for _ in range(8)])
        self._mean = judge_pictures(judge, scenes).features.mean(0)
        self._fresh = {concept: self._renders(concept, 96, 7) for concept in concepts}

    def score(self, concept: Concept, draw: Draw, word: str, seed: int = 11) -> Score:
        """Score what `draw` makes of prompts with `word` in the concept's place."""
        background = torch.arange(PICTURES) % len(BACKGROUNDS)
        photos = draw([f"a photo of {word}"] * PICTURES, seed)
        edited = draw([f"a photo of {word} on a {BACKGROUNDS[b]} background" for b in background], seed + 1)
        return self._score(concept, photos, edited, background)

    def ceiling(self, concept: Concept) -> Score:
        """The score of fresh renders against other fresh renders: as good as it gets."""
        background = torch.arange(PICTURES) % len(BACKGROUNDS)
        generator = torch.Generator().manual_seed(21)
        return self._score(
            concept, concept.pictures(background, generator), concept.pictures(background, generator), background
        )

    def likeness(self, concept: Concept, pictures: Tensor) -> float:
        """`Score.reconstruction` of any pictures."""
        ours = self._features(pictures).mean(0)
        return float(F.cosine_similarity(ours, self._features(self._fresh[concept]).mean(0), dim=0))

    def _score(self, concept: Concept, photos: Tensor, edited: Tensor, background: Tensor) -> Score:
        seen = judge_pictures(self._judge, torch.cat([photos, edited])).attributes
        right = seen["background"][len(photos) :] == background
        same = self._nearest(edited) == list(self._fresh).index(concept)
        colour = (object_colour(photos) - object_colour(self._fresh[concept]).mean(0)).mean(0).norm()
        attributes = None
        if concept.name == concept.caption:
            wanted = {
                "shape": SHAPES.index(concept.word),
                "colour": int((COLOUR_RGB - torch.tensor(concept.rgb)).norm(dim=1).argmin()),
                "texture": concept.texture,
            }
            hits = torch.stack([seen[name] == value for name, value in wanted.items()])
            attributes = float(hits.all(0).float().mean())
        return Score(
            self.likeness(concept, photos),
            float(colour),
            attributes,
            float(right.float().mean()),
            float((right & same).float().mean()),
        )

    def _nearest(self, pictures: Tensor) -> Tensor:
        """Index of the concept whose renders' mean features are nearest, for each picture."""
        references = torch.stack([self._features(renders).mean(0) for renders in self._fresh.values()])
        features = self._features(pictures)
        return F.cosine_similarity(features[:, None], references[None], dim=-1).argmax(1)

    def _features(self, pictures: Tensor) -> Tensor:
        return judge_pictures(self._judge, pictures).features - self._mean

    @staticmethod
    def _renders(concept: Concept, count: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.cat([concept.pictures(torch.arange(32) % len(BACKGROUNDS), generator) for _ in range(count // 32)])
