"""The scores of one word by one scorer, from pictures that are shown to it one prompt after another.

Likeness (the paper's reconstruction): the mean cosine of every picture of "a photo of S*" with every reference. The
references are held-out pictures where there are some, and else the training pictures. The ceiling is what pictures that
were not generated reach: the training pictures with the held-out ones, or with each other, each with itself left out.

Text (the paper's editability): the mean, over prompts and pictures, of the cosine of a picture with the text of its
prompt without the word. Each picture's cosine is taken, and then the mean, as the paper's code does. The paper's text
says to average the pictures' vectors first; that other, larger number stands beside it (`text_of_mean`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .cosines import cosine_of_mean, pairwise_cosines, patch_likeness
from .intervals import Estimate, mean_among_themselves, mean_of_pairs, mean_of_prompts
from .scorer import Scorer


@dataclass(frozen=True)
class GroupScores:
    """Scores of one group of prompts. likeness: of its pictures with the references, which tells a word that is obeyed
    from a word that is dropped. The three others are None without a text tower. unedited: the cosine of the pictures of
    "a photo of S*" with the same texts, which a prompt that is obeyed has to exceed."""

    likeness: Estimate
    text: Estimate | None
    text_of_mean: float | None
    unedited: float | None


@dataclass(frozen=True)
class Scores:
    """All scores by one scorer; None where it has no patches or texts, or where there is one training picture only."""

    scorer: str
    likeness: Estimate
    ceiling: Estimate | None
    patches: Estimate | None
    patches_ceiling: Estimate | None
    text: Estimate | None
    groups: dict[str, GroupScores]


@dataclass
class _Group:
    pictures: list[Tensor] = field(default_factory=list)  # a prompt's vectors [N, D]
    texts: list[Tensor] = field(default_factory=list)  # [D]


class Measurement:
    """What one scorer sees of one word. Keeps vectors, no pictures.

    references: the pictures to compare with, of any sizes, without their background if that shall not count. compared:
    the training pictures as the generated ones are shown, for the ceiling; `same` where they are the references.
    """

    def __init__(self, scorer: Scorer, references: Sequence[Tensor], compared: Sequence[Tensor], same: bool) -> None:
        self._scorer, self._compared, self._same = scorer, compared, same
        self._references = scorer.embed_pictures(references)
        self._patches = scorer.patch_tokens(references)
        self._photos: Tensor | None = None
        self._photo_likeness: Estimate | None = None
        self._groups: dict[str, _Group] = {}

    def add_photos(self, pictures: Sequence[Tensor]) -> None:
        """The pictures of "a photo of S*"."""
        self._photos = self._scorer.embed_pictures(pictures)
        if self._patches is not None:
            self._photo_likeness = mean_of_pairs(patch_likeness(_patches(self._scorer, pictures), self._patches))

    def add_edit(self, group: str, text: str, pictures: Sequence[Tensor]) -> None:
        """The pictures of a prompt that asks for more. text: the prompt without the word."""
        kept = self._groups.setdefault(group, _Group())
        kept.pictures.append(self._scorer.embed_pictures(pictures))
        vector = self._scorer.embed_texts([text])
        if vector is not None:
            kept.texts.append(vector[0])

    def scores(self) -> Scores:
        """Of everything that was added. ValueError before there are photos."""
        if self._photos is None:
            raise ValueError("There are no pictures of the word alone to score.")
        own = self._scorer.embed_pictures(self._compared)
        patches = self._patches
        among = None if patches is None else patch_likeness(_patches(self._scorer, self._compared), patches)
        cosines = {name: _text_cosines(group) for name, group in self._groups.items() if group.texts}
        return Scores(
            self._scorer.name,
            mean_of_pairs(pairwise_cosines(self._photos, self._references)),
            self._ceiling(pairwise_cosines(own, self._references)),
            self._photo_likeness,
            None if among is None else self._ceiling(among),
            mean_of_prompts(list(cosines.values())) if cosines else None,
            {name: self._group_scores(group, cosines.get(name)) for name, group in self._groups.items()},
        )

    def _ceiling(self, cosines: Tensor) -> Estimate | None:
        return mean_among_themselves(cosines) if self._same else mean_of_pairs(cosines)

    def _group_scores(self, group: _Group, cosines: list[Tensor] | None) -> GroupScores:
        likeness = mean_of_prompts([[pairwise_cosines(seen, self._references).mean(1) for seen in group.pictures]])
        if cosines is None or self._photos is None:
            return GroupScores(likeness, None, None, None)
        of_mean = [cosine_of_mean(seen, text) for seen, text in zip(group.pictures, group.texts, strict=True)]
        unedited = pairwise_cosines(self._photos, torch.stack(group.texts)).mean()
        return GroupScores(likeness, mean_of_prompts([cosines]), sum(of_mean) / len(of_mean), float(unedited))


def _text_cosines(group: _Group) -> list[Tensor]:
    """For each prompt the cosines [N] of its pictures with its text."""
    pairs = zip(group.pictures, group.texts, strict=True)
    return [pairwise_cosines(seen, text[None])[:, 0] for seen, text in pairs]


def _patches(scorer: Scorer, pictures: Sequence[Tensor]) -> Tensor:
    tokens = scorer.patch_tokens(pictures)
    if tokens is None:
        raise ValueError(f"{scorer.name} gave patches of some pictures and none of others.")
    return tokens
