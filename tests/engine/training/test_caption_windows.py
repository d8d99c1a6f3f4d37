"""Captions in which a text encoder does not read the whole word."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy import ToyBackend, hidden_set, toy_config

from ti_engine import CaptionSource, train
from ti_engine.training.caption_windows import caption_warnings

TWO_ENCODERS = {"clip_l": 6, "t5xxl": 4}
LATE = "a photo of the red round ball, a {}"  # the word is the ninth


def backend(**windows: int) -> ToyBackend:
    return ToyBackend(widths=TWO_ENCODERS, windows=windows)


def warnings(captions: list[str], windows: dict[str, int], **changes) -> list[str]:
    return caption_warnings(backend(**windows), [c.replace("{}", "S*") for c in captions], toy_config(**changes))


def test_nothing_is_said_of_captions_that_are_read_whole():
    assert warnings(["a {}", LATE], {}, num_vectors=4) == []
    assert warnings(["a {}", LATE], {"clip_l": 12}, num_vectors=4) == []
    assert warnings(["{} and {} " + LATE], {"clip_l": 2}) == []  # read once, though not everywhere


@pytest.mark.parametrize(
    ("window", "sentence"), [(8, "none of the 3"), (9, "only 1 of the 3"), (10, "only 2 of the 3")]
)
def test_a_caption_is_named_with_the_encoder_and_what_it_reads(window, sentence):
    (said,) = warnings(["a {}", LATE], {"clip_l": window}, num_vectors=3)
    assert f"clip_l reads {sentence} vectors of S*" in said
    assert LATE.format("S*") in said and "t5xxl" not in said and "Shorten" in said


def test_every_encoder_is_named():
    (said,) = warnings(["a {}", LATE], {"clip_l": 8, "t5xxl": 9}, num_vectors=2)
    assert "clip_l reads none" in said and "t5xxl reads only 1" in said


def test_vectors_that_no_caption_shows_are_named():
    *captions, rows = warnings(["a photo of {}", LATE], {"clip_l": 5}, num_vectors=4)
    assert len(captions) == 2
    assert "clip_l" in rows and "vector 3 and 4 of S*" in rows


def test_an_encoder_that_reads_the_word_nowhere_ends_the_run_before_it_begins():
    one = backend(clip_l=8)
    dataset = replace(hidden_set(ToyBackend()), captions=CaptionSource("S*", [LATE, "red " + LATE]))
    sentence = r"^clip_l would learn nothing.*each of the 2 captions.*train_encoders to t5xxl"
    with pytest.raises(ValueError, match=sentence):
        next(train(one, dataset, toy_config()))
    assert one.denoised == 0 and not one.encoded
    with pytest.raises(ValueError, match="clip_l and t5xxl would learn nothing") as error:
        warnings([LATE], {"clip_l": 8, "t5xxl": 3})
    assert "train_encoders" not in str(error.value)  # which would not help


def test_encoders_that_are_not_trained_may_read_what_they_like():
    assert warnings([LATE], {"clip_l": 8}, train_encoders=("t5xxl",), initial_words="ball") == []


def test_many_captions_are_counted_and_long_ones_shortened():
    said = warnings(["a {}", *(LATE + " red" * n for n in range(14))], {"clip_l": 8})
    assert len(said) == 11 and said[-1].startswith("4 more of the 15 captions")
    long = "a red round ball " * 20 + LATE
    captions = [long.format("S*"), "S*"]

    class Named(ToyBackend):
        def rows_read(self, captions, placeholder, num_vectors):
            return {"clip_l": [set(), {0}]}

    (warning,) = caption_warnings(Named(), captions, toy_config())
    assert len(warning) < 300 and ", a S*'" in warning


def test_the_record_of_a_run_names_them_before_the_first_update_and_keeps_them():
    one = backend(clip_l=8)
    dataset = replace(hidden_set(ToyBackend()), captions=CaptionSource("S*", ["a {}", LATE]))
    dataset = replace(dataset, mean=torch.randn(2, *dataset.mean.shape[1:]))
    steps = train(one, dataset, toy_config(steps=2))
    before = list(next(steps).record.warnings)
    *_, last = steps
    assert len(before) == 1 and last.record.warnings == before
