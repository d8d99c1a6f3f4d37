"""The judge in place of CLIP: its features as a likeness, and the exact share of pictures that show what was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.pictures import fit_picture
from ..evaluation.intervals import Estimate, mean_of_prompts
from .corpus import sample_scenes
from .edits import Edit
from .judge import Judge, judge_pictures
from .world import SIZE

_OBJECT = ("shape", "colour", "texture")


class JudgeScorer:
    """A Scorer: the judge's features, less their mean over scenes of all kinds. It reads no texts, has no patches."""

    name = "judge of the demo model"

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        generator = torch.Generator().manual_seed(4)
        scenes = torch.cat([sample_scenes(64, generator).draw(generator) for _ in range(8)])
        self._mean = judge_pictures(judge, scenes).features.mean(0)

    def embed_pictures(self, pictures: Sequence[Tensor]) -> Tensor:
        return judge_pictures(self._judge, _fitted(pictures)).features - self._mean

    def embed_texts(self, texts: Sequence[str]) -> None:
        return None

    def patch_tokens(self, pictures: Sequence[Tensor]) -> None:
        return None


@dataclass(frozen=True)
class JudgedGroup:
    """Shares of the pictures of a group of prompts. asked: everything that the prompt asks for is there. kept: the
    object is that of the training pictures, by what the judge sees alike in all of them; None where that is nothing."""

    asked: Estimate
    kept: Estimate | None


class JudgeShares:
    """What the judge sees of one word, from pictures that are shown to it one prompt after another."""

    def __init__(self, judge: Judge, training: Sequence[Tensor]) -> None:
        self._judge = judge
        seen = judge_pictures(judge, _fitted(training)).attributes
        self.constant = {head: int(seen[head][0]) for head in _OBJECT if bool((seen[head] == seen[head][0]).all())}
        """Head -> what the judge sees in every training picture."""
        self._asked: dict[str, list[Tensor]] = {}
        self._kept: dict[str, list[Tensor]] = {}

    def add_edit(self, edit: Edit, pictures: Sequence[Tensor]) -> None:
        """The pictures of a prompt."""
        seen = judge_pictures(self._judge, _fitted(pictures)).attributes
        self._asked.setdefault(edit.group, []).append(_all_right(seen, edit.asked))
        object_ = {here: self.constant[head] for head, here in edit.object_heads.items() if head in self.constant}
        if object_:
            self._kept.setdefault(edit.group, []).append(_all_right(seen, object_))

    def shares(self) -> dict[str, JudgedGroup]:
        """Group -> shares of everything that was added."""
        return {
            group: JudgedGroup(
                mean_of_prompts([asked]),
                mean_of_prompts([self._kept[group]]) if group in self._kept else None,
            )
            for group, asked in self._asked.items()
        }


def _all_right(seen: dict[str, Tensor], wanted: dict[str, int]) -> Tensor:
    """[N], 1 where the judge sees all that is wanted."""
    return torch.stack([seen[head] == value for head, value in wanted.items()]).all(0).double()


def _fitted(pictures: Sequence[Tensor]) -> Tensor:
    """As the judge takes them: [N, 3, 128, 128]."""
    return torch.stack([fit_picture(picture, SIZE, f"Picture {n}") for n, picture in enumerate(pictures, 1)])
