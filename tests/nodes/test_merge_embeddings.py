"""One word of several, without a model."""

from __future__ import annotations

import importlib

import pytest
import torch


@pytest.fixture
def words(nodes):
    engine = importlib.import_module("ti_plugin.ti_engine")
    generator = torch.Generator().manual_seed(0)
    return [
        engine.TokenEmbedding({"clip_l": torch.randn(2, 768, generator=generator)}, name)
        for name in ("S*", "S*", "cat")
    ]


@pytest.fixture
def merge(nodes):
    def run(first, *others, method="weighted sum", weights="", add="", subtract="", rescale=False, placeholder="S*",
            **more):  # fmt: skip
        settings = (method, weights, add, subtract, rescale, placeholder)
        return nodes.MergeEmbeddings.execute(first, *settings, *others, **more).args

    return run


def test_the_sum_is_equal_parts_or_what_the_weights_say(merge, words):
    a, b, c = (word.vectors["clip_l"] for word in words)
    assert torch.allclose(merge(*words)[0].vectors["clip_l"], (a + b + c) / 3)
    merged, report = merge(words[0], words[2], weights="1 -0.5", placeholder=" T* ")
    assert torch.allclose(merged.vectors["clip_l"], a - c / 2) and merged.placeholder == "T*"
    assert merged.metadata == {"modelspec.merged_from": "S* (1), cat (-0.5)"}
    assert report.startswith("T*: weighted sum of S* (1), cat (-0.5).\nclip_l: 2 vectors of width 768.")


def test_the_first_vectors_alone(merge, words):
    long = importlib.import_module("ti_plugin.ti_engine").TokenEmbedding({"clip_l": torch.randn(3, 768)}, "dog")
    (a, b) = (word.vectors["clip_l"] for word in (words[0], long))
    merged, report = merge(words[0], long, num_vectors=2)
    assert torch.allclose(merged.vectors["clip_l"], (a + b[:2]) / 2) and ", the first 2 vectors of each." in report
    assert torch.equal(merge(long, num_vectors=1)[0].vectors["clip_l"], b[:1])
    with pytest.raises(ValueError, match=r"S\* has 2 vectors; 1 to 2 can be kept, not 3"):
        merge(words[0], long, num_vectors=3)


def test_two_words_of_one_name_are_told_apart(merge, words):
    assert "S* of embedding (0.5), S* of embedding_2 (0.5)" in merge(words[0], words[1])[1]


def test_concat_and_slerp(merge, words):
    a, b, c = (word.vectors["clip_l"] for word in words)
    joined, report = merge(*words, method="concat")
    assert torch.equal(joined.vectors["clip_l"], torch.cat([a, b, c])) and "of S* of embedding, " in report
    halfway = merge(words[0], words[2], method="slerp")[0].vectors["clip_l"]
    assert torch.allclose(halfway.norm(dim=1), (a.norm(dim=1) + c.norm(dim=1)) / 2)
    assert torch.allclose(merge(words[0], words[2], method="slerp", weights="1, 0")[0].vectors["clip_l"], a)


@pytest.mark.parametrize(
    ("weights", "warning"),
    [
        ("0.7, 0.3", None),
        ("7, 3", None),
        ("70, 30", "A vector of clip_l has norm 2.19e+03, 77x the longest that went into it: it will"),
        ("1e35, 0.5", "The vectors of clip_l hold numbers up to "),
    ],
)
def test_absurd_vectors_are_told(merge, words, weights, warning):
    merged, report = merge(words[0], words[2], weights=weights)
    assert bool(merged.vectors["clip_l"].isfinite().all())
    told = [line.removeprefix("Warning: ") for line in report.splitlines() if line.startswith("Warning")]
    assert len(told) == (warning is not None) and all(line.startswith(warning) for line in told)


@pytest.mark.parametrize(
    ("count", "settings", "sentence"),
    [
        (1, {}, "one word and nothing to do with it"),
        (2, dict(weights="1"), "read as 1, which is 1 for 2 words"),
        (2, dict(weights="a, b"), "weights must be numbers"),
        (2, dict(weights="nan, 1"), "finite"),
        (2, dict(weights="1e39, 1"), "choose smaller ones"),
        (2, dict(weights="1, 1", method="concat"), "concat takes every vector"),
        (3, dict(method="slerp"), "exactly two"),
        (2, dict(method="slerp", weights="-1 2"), "not negative"),
        (2, dict(method="slerp", add="cat"), "belong to a sum, not to slerp"),
        (1, dict(add="cat"), "connect its CLIP"),
        (2, dict(rescale=True), "connect its CLIP"),
        (2, dict(placeholder=" "), "placeholder is empty"),
        (2, dict(placeholder="a,b"), "placeholder 'a,b' must not contain"),
        (2, dict(placeholder="x" * 65), "65 characters"),
    ],
)
def test_bad_input_is_one_sentence(merge, words, count, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        merge(*words[:count], **settings)


def test_other_widths_are_never_padded(merge, words):
    engine = importlib.import_module("ti_plugin.ti_engine")
    other = engine.TokenEmbedding({"clip_h": torch.randn(2, 1024)}, "big")
    with pytest.raises(ValueError, match=r"S\* is a word of SD1 and big one of SD2.*faithfully"):
        merge(words[0], other)
