"""What a merge means, whoever asks for it; the arithmetic itself is in test_arithmetic.py."""

from collections.abc import Mapping

import pytest
import torch

from ti_engine import EncoderInfo, TokenEmbedding
from ti_engine.word.merging import merge, parse_weights


def word(seed: int, count: int = 2, **metadata: str) -> TokenEmbedding:
    rows = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    return TokenEmbedding({"clip_l": rows}, f"W{seed}", metadata)


class SmallVocabulary:
    """A model as far as a merge asks for one."""

    encoders: Mapping[str, EncoderInfo] = {"clip_l": EncoderInfo(8, 75, 0.01, 0.5)}

    def word_vectors(self, words: str) -> dict[str, torch.Tensor]:
        return {"clip_l": torch.full((len(words.split()), 8), float(len(words)))}


@pytest.mark.parametrize(
    ("text", "count", "numbers"),
    [
        ("", 4, [0.25] * 4),
        (" , ", 2, [0.5, 0.5]),
        ("0.7, 0.3", 2, [0.7, 0.3]),
        ("0.7,0.3", 2, [0.7, 0.3]),
        ("0.7 0.3", 2, [0.7, 0.3]),
        ("0.7;0.3;", 2, [0.7, 0.3]),
        ("0.7 , 0.3 ,1", 3, [0.7, 0.3, 1]),
        ("0,7; 0,3", 2, [0.7, 0.3]),
        ("0,7 -0,3", 2, [0.7, -0.3]),
        ("1,5e-1 2", 2, [0.15, 2]),
        ("0,6", 1, [0.6]),
        ("-1,5", 1, [-1.5]),
        ("1, 2", 2, [1, 2]),
        ("1,-1", 2, [1, -1]),
        ("1,2,3", 3, [1, 2, 3]),
        ("1e-1\n2", 2, [0.1, 2]),
    ],
)
def test_weights_are_read_as_they_are_meant(text, count, numbers):
    assert parse_weights(text, count) == numbers


@pytest.mark.parametrize(
    ("text", "count", "sentence"),
    [
        ("0,6", 2, r"comma in 0,6 can part two numbers .*write 0\.6 or 0; 6\."),
        ("1,1", 2, r"write 1\.1 or 1; 1\."),
        ("1, 0,5", 2, r"the comma in 0,5 .*write 0\.5 or 0; 5"),
        ("0,6", 3, "comma in 0,6"),
        ("0,6 0,4", 4, r"read as 0\.6 and 0\.4, which is 2 for 4 words"),
        ("1.5, 2, 3", 2, r"read as 1\.5, 2 and 3, which is 3 for 2 words"),
        ("0.7,0.3", 1, r"read as 0\.7 and 0\.3, which is 2 for 1 word;"),
        ("a, b", 2, "must be numbers such as"),
        ("1;;2", 2, "must be numbers such as"),
        ("inf 1", 2, "finite"),
        ("1e999", 1, "finite"),
    ],
)
def test_weights_that_are_not_clear_are_refused_with_what_was_read(text, count, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_weights(text, count)


def test_a_new_word_says_what_it_is_made_of_and_keeps_nothing_else():
    one, other = word(1, note="x"), word(2)
    merged = merge([("a", one), ("b, c", other)], weights="0,25 0,75")
    assert merged.made_of == "a (0.25), b  c (0.75)" and merged.word.metadata == {}
    expected = 0.25 * one.vectors["clip_l"] + 0.75 * other.vectors["clip_l"]
    assert torch.allclose(merged.word.vectors["clip_l"], expected)


def test_one_word_that_is_cut_or_rescaled_stays_what_it_is():
    one = word(1, 3, note="x")
    merged = merge([("a", one)], num_vectors=2, rescaled=True, vocabulary=SmallVocabulary())
    assert (merged.word.placeholder, merged.word.metadata, merged.made_of) == ("W1", {"note": "x"}, "")
    assert torch.allclose(merged.word.vectors["clip_l"].norm(dim=1), torch.tensor([0.5, 0.5]))
    assert merge([("a", one)], weights="0,5").made_of == "a (0.5)"


def test_words_of_the_vocabulary_are_added_and_subtracted():
    one = word(1)
    merged = merge([("a", one)], add=["xy"], subtract=["x yz"], vocabulary=SmallVocabulary())
    assert torch.allclose(merged.word.vectors["clip_l"], one.vectors["clip_l"] + 2 - 4)
    assert merged.made_of == "a (1), xy (1), x yz (-1)"
    assert merge([], add=["xy"], vocabulary=SmallVocabulary()).word.num_vectors == 1


def test_a_word_that_grew_is_told_unless_it_was_rescaled():
    pair = [("a", word(1)), ("b", word(2))]
    assert not merge(pair).warnings and "dominate" in merge(pair, weights="70 30").warnings[0]
    assert not merge(pair, weights="70 30", rescaled=True, vocabulary=SmallVocabulary()).warnings


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(method="slerp", add=["x"]), "belong to a sum, not to slerp"),
        (dict(method="concat", weights="1 1"), "concat takes every vector as it is"),
        (dict(add=["x"]), "connect its CLIP, or name it with --model"),
        (dict(rescaled=True), "connect its CLIP"),
        (dict(method="slerp", weights="0 0"), "not all zero"),
        (dict(num_vectors=3), "1 to 2 can be kept"),
    ],
)
def test_what_cannot_be_merged_is_one_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        merge([("a", word(1)), ("b", word(2))], **settings)


def test_nothing_cannot_be_merged():
    with pytest.raises(ValueError, match="nothing to merge"):
        merge([], subtract=["x"], vocabulary=SmallVocabulary())
