"""The scores of a word, by a scorer whose cosines can be computed by hand."""

from __future__ import annotations

import pytest
import torch
from small_towers import ColourScorer, plain
from torch import Tensor

from ti_engine.evaluation.scores import Measurement, Scores

RED, GREEN, BOTH = plain(1, 0, 0), plain(0, 1, 0), plain(1, 1, 0)
HALF = 0.5**0.5


def measured(references: list[Tensor], compared: list[Tensor], same: bool, photos: list[Tensor]) -> Scores:
    measurement = Measurement(ColourScorer(), references, compared, same)
    measurement.add_photos(photos)
    return measurement.scores()


def test_likeness_is_the_mean_over_all_pairs_and_its_ceiling_leaves_each_picture_out() -> None:
    training = [RED, RED, BOTH]
    scores = measured(training, training, True, [RED, BOTH])
    assert scores.likeness.value == pytest.approx((2 + HALF + 2 * HALF + 1) / 6)
    assert scores.ceiling is not None and scores.ceiling.value == pytest.approx((1 + 2 * HALF) / 3)
    assert scores.patches is not None and scores.patches.value == pytest.approx(scores.likeness.value, abs=1e-6)
    assert (scores.text, scores.groups) == (None, {})


def test_held_out_pictures_are_the_references_and_the_training_pictures_show_the_ceiling() -> None:
    scores = measured([BOTH], [RED, RED], False, [BOTH, BOTH])
    assert scores.likeness.value == pytest.approx(1)
    assert scores.ceiling is not None and scores.ceiling.value == pytest.approx(HALF)


def test_one_training_picture_has_no_ceiling() -> None:
    assert measured([RED], [RED], True, [RED]).ceiling is None


def test_text_is_the_mean_of_cosines_beside_the_papers_average_and_the_unedited_pictures() -> None:
    measurement = Measurement(ColourScorer(), [RED], [RED], True)
    measurement.add_photos([RED, RED])
    measurement.add_edit("property", "a green", [GREEN, BOTH])
    measurement.add_edit("property", "a red", [RED, RED])
    measurement.add_edit("background", "on blue", [plain(0, 0, 1)])
    scores = measurement.scores()
    edited = (1 + HALF) / 2
    group = scores.groups["property"]
    assert group.text is not None and group.text.value == pytest.approx((edited + 1) / 2)
    mean = torch.tensor([HALF, 1 + HALF]) / 2
    assert group.text_of_mean == pytest.approx((float(mean[1] / mean.norm()) + 1) / 2)
    assert group.text_of_mean is not None and group.text_of_mean > group.text.value
    assert group.unedited == pytest.approx((0 + 1) / 2)
    assert group.likeness.value == pytest.approx(((0 + HALF) / 2 + 1) / 2)  # what a dropped word would show in
    assert scores.text is not None and scores.text.value == pytest.approx((edited + 1 + 1) / 3)
    assert list(scores.groups) == ["property", "background"]


def test_a_scorer_without_texts_and_patches_gives_likeness_alone() -> None:
    class Blind(ColourScorer):
        def embed_texts(self, texts):
            return None

        def patch_tokens(self, pictures):
            return None

    measurement = Measurement(Blind(), [RED], [RED], True)
    measurement.add_photos([RED])
    measurement.add_edit("style", "anything", [GREEN])
    scores = measurement.scores()
    assert (scores.patches, scores.patches_ceiling, scores.text) == (None, None, None)
    assert scores.groups["style"].text is None and scores.groups["style"].likeness.value == pytest.approx(0)


def test_scores_need_photos() -> None:
    with pytest.raises(ValueError, match="no pictures of the word alone"):
        Measurement(ColourScorer(), [RED], [RED], True).scores()
