"""The judge on drawn scenes, whose attributes are known: it sees what is asked for, and what the object is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ti_engine.demo.concepts import CONCEPTS, Concept
from ti_engine.demo.edits import EDITS, Edit
from ti_engine.demo.judge import HEADS, Judge, load_judge
from ti_engine.demo.judge_scores import JudgeScorer, JudgeShares
from ti_engine.demo.tokenizer import VOCABULARY
from ti_engine.evaluation.cosines import pairwise_cosines

HEART, OTHER = CONCEPTS["dark teal heart"], CONCEPTS["red over blue square"]


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


def renders(concept: Concept, count: int, seed: int, background: int | None = None) -> Tensor:
    index = torch.arange(count) % 6 if background is None else torch.full((count,), background)
    return concept.pictures(index, torch.Generator().manual_seed(seed))


def test_every_edit_asks_with_words_of_the_model_for_what_the_judge_can_see() -> None:
    assert [group for group in dict.fromkeys(edit.group for edit in EDITS)] == [
        "background", "style", "property", "relation",
    ]  # fmt: skip
    for edit in EDITS:
        assert edit.asked and set(edit.prompt.replace("{}", "").split()) <= set(VOCABULARY)
        for head, value in edit.asked.items():
            assert 0 <= value < HEADS[head]
        assert {*edit.object_heads, *edit.object_heads.values()} <= set(HEADS)
        assert not set(edit.asked) & set(edit.object_heads.values())  # what is asked for is no part of the object


def test_likeness_by_features_tells_concepts_apart(judge: Judge) -> None:
    scorer = JudgeScorer(judge)
    heart, again, other = (
        scorer.embed_pictures(list(pictures))
        for pictures in (renders(HEART, 6, 0), renders(HEART, 6, 1), renders(OTHER, 6, 2))
    )
    assert float(pairwise_cosines(heart, again).mean()) > 0.4 > float(pairwise_cosines(heart, other).mean())
    large = torch.nn.functional.interpolate(renders(HEART, 2, 0), size=(256, 300))
    assert scorer.embed_pictures(list(large)).shape == heart[:2].shape
    assert scorer.embed_texts(["a heart"]) is None and scorer.patch_tokens(list(large)) is None


def test_shares_of_what_is_asked_and_of_the_object(judge: Judge) -> None:
    shares = JudgeShares(judge, list(renders(HEART, 4, 0)))
    assert {"shape", "texture"} <= set(shares.constant)  # its colour has no name, so the judge may waver
    edit = Edit("background", "a photo of {} on a black background", {"background": 2}, {"shape": "shape"})
    shares.add_edit(edit, [*renders(HEART, 3, 1, background=2), *renders(OTHER, 1, 1, background=3)])
    shares.add_edit(edit, list(renders(OTHER, 4, 2, background=2)))
    judged = shares.shares()["background"]
    assert judged.asked.value == pytest.approx((3 / 4 + 1) / 2)
    assert judged.kept is not None and judged.kept.value == pytest.approx((3 / 4 + 0) / 2)


def test_an_object_that_differs_from_picture_to_picture_is_not_judged(judge: Judge) -> None:
    shares = JudgeShares(judge, [*renders(HEART, 2, 0), *renders(OTHER, 2, 0)])
    assert "shape" not in shares.constant
    shares.add_edit(Edit("style", "x", {"style": 0}, {"shape": "shape"}), list(renders(HEART, 2, 1)))
    assert shares.shares()["style"].kept is None
