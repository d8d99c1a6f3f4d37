"""`textual-inversion merge`: words of files and of a vocabulary, weighed and put together."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from command_line import Output, refused, rows, run, vectors_in
from torch import Tensor

from ti_engine import EncoderInfo
from ti_engine.cli import merge
from ti_engine.files import load_embedding

pytestmark = pytest.mark.usefixtures("word_files")
VOCABULARY = {"man": 1, "woman": 2, "red hat": 3}


class SmallVocabulary:
    """A model as far as merge asks for one: the vectors of three words of SD1's width, one of them of two tokens."""

    encoders = {"clip_l": EncoderInfo(768, 75, 0.01, 0.4)}  # noqa: RUF012

    def word_vectors(self, words: str) -> dict[str, Tensor]:
        if words not in VOCABULARY:
            raise ValueError(f"The vocabulary does not hold {words!r}.")
        return {"clip_l": rows(VOCABULARY[words], len(words.split()))}


@pytest.fixture(autouse=True)
def small_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "open_model", lambda arguments: SmallVocabulary())


def test_sum_is_the_mean_by_default(word_files: Any) -> None:
    assert run("merge", "cat.safetensors", "dog.safetensors", "--output", "catdog.safetensors") == 0
    merged = load_embedding("catdog.safetensors")
    torch.testing.assert_close(merged.vectors["clip_l"], (word_files.cat + word_files.dog) / 2)
    assert merged.placeholder == "catdog"
    assert merged.metadata["modelspec.merged_from"] == "cat (0.5), dog (0.5)"
    assert "note" not in merged.metadata


def test_weights_that_make_a_word_far_longer_are_told(capsys: Output) -> None:
    for weights, told in (("0.7 0.3", ""), ("70 30", "x the longest that went into it: it will dominate the prompt.")):
        flags = ["--weights", *weights.split(), "--output", "a.safetensors", "--overwrite"]
        assert run("merge", "cat.safetensors", "dog.safetensors", *flags) == 0
        error = capsys.readouterr().err
        assert told in error and ("dominate" in error) == bool(told)


@pytest.mark.parametrize(
    ("weights", "of_cat", "of_dog"),
    [
        ("1.5 -0.5", 1.5, -0.5),
        ("-0.6 1", -0.6, 1),
        ("-0,6 1", -0.6, 1),
        ("1 -,5", 1, -0.5),
        ("-6e-1 1", -0.6, 1),
        ("-0.6,1", -0.6, 1),
        ("-0,6;1", -0.6, 1),
    ],
)
def test_weights_may_be_negative(word_files: Any, weights: str, of_cat: float, of_dog: float) -> None:
    flags = ["--weights", *weights.split(), "--output", "a.safetensors"]
    assert run("merge", "cat.safetensors", "dog.safetensors", *flags) == 0
    torch.testing.assert_close(vectors_in("a.safetensors"), of_cat * word_files.cat + of_dog * word_files.dog)


def test_slerp_and_concat(word_files: Any, capsys: Output) -> None:
    both = ["cat.safetensors", "dog.safetensors"]
    assert run("merge", *both, "--method", "slerp", "--weights", "3", "1", "--output", "s.safetensors") == 0
    turned = vectors_in("s.safetensors")
    lengths = 0.75 * word_files.cat.norm(dim=1) + 0.25 * word_files.dog.norm(dim=1)
    torch.testing.assert_close(turned.norm(dim=1), lengths)
    assert run("merge", *both, "--method", "concat", "--output", "c.safetensors", "--json") == 0
    assert torch.equal(vectors_in("c.safetensors"), torch.cat([word_files.cat, word_files.dog]))
    assert load_embedding("c.safetensors").metadata["modelspec.merged_from"] == "cat, dog"
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["words"][0]["vectors"] == {"clip_l": [4, 768]}


def test_king_minus_man_plus_woman(word_files: Any) -> None:
    flags = ["--model", "demo", "--subtract", "man", "--add", "woman"]
    assert run("merge", "king.safetensors", *flags, "--output", "queen.safetensors") == 0
    expected = word_files.king.double() - rows(1).double() + rows(2).double()
    queen = load_embedding("queen.safetensors")
    torch.testing.assert_close(queen.vectors["clip_l"], expected.float())
    assert queen.metadata["modelspec.merged_from"] == "king (1), woman (1), man (-1)"


def test_a_vocabulary_word_of_one_token_acts_on_every_vector(word_files: Any) -> None:
    assert run("merge", "cat.safetensors", "--model", "demo", "--add", "man", "--output", "a.safetensors") == 0
    torch.testing.assert_close(vectors_in("a.safetensors"), word_files.cat + rows(1))
    assert run("merge", "cat.safetensors", "--model", "demo", "--add", "red hat", "--output", "b.safetensors") == 0
    torch.testing.assert_close(vectors_in("b.safetensors"), word_files.cat + rows(3, 2))


def test_words_of_the_vocabulary_alone() -> None:
    flags = ["--model", "demo", "--add", "man", "woman", "--output", "a.safetensors"]
    assert run("merge", *flags) == 0
    torch.testing.assert_close(vectors_in("a.safetensors"), rows(1) + rows(2))


def test_one_file_is_cut_and_rescaled_and_stays_what_it_is(word_files: Any) -> None:
    assert run("merge", "cat.safetensors", "--num-vectors", "1", "--output", "a.safetensors") == 0
    assert torch.equal(vectors_in("a.safetensors"), word_files.cat[:1])
    assert run("merge", "cat.safetensors", "--rescale", "--model", "demo", "--output", "b.safetensors") == 0
    word = load_embedding("b.safetensors")
    torch.testing.assert_close(word.vectors["clip_l"].norm(dim=1), torch.full((2,), 0.4))
    assert (word.placeholder, word.metadata["note"]) == ("<cat>", "cat")
    assert "modelspec.merged_from" not in word.metadata


def test_words_of_different_lengths_are_cut_to_be_merged(word_files: Any) -> None:
    both = ["cat.safetensors", "king.safetensors", "--output", "a.safetensors"]
    assert run("merge", *both) == 2
    assert run("merge", *both, "--num-vectors", "1") == 0
    torch.testing.assert_close(vectors_in("a.safetensors"), (word_files.cat[:1] + word_files.king) / 2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("merge --output new.safetensors", "nothing to merge"),
        ("merge none.safetensors --output new.safetensors", "There is no file none.safetensors"),
        ("merge cat.safetensors xl.safetensors --output new.safetensors", "cat is a word of SD1 and xl one of SDXL"),
        ("merge cat.safetensors king.safetensors --output new.safetensors", "cat has 2 vectors and king 1 vector"),
        ("merge cat.safetensors --weights 1 2 --output new.safetensors", "read as 1 and 2, which is 2 for 1 word;"),
        ("merge cat.safetensors dog.safetensors --weights 1 nan --output new.safetensors", "finite numbers"),
        ("merge cat.safetensors dog.safetensors --weights -0,6 --output new.safetensors", "write -0.6 or -0; 6."),
        ("merge cat.safetensors cat.safetensors --weights 1 -1 --output new.safetensors", "cancel out"),
        ("merge cat.safetensors --add man --output new.safetensors", "or name it with --model"),
        ("merge cat.safetensors --rescale --output new.safetensors", "or name it with --model"),
        ("merge cat.safetensors --model demo --add gloop --output new.safetensors", "gloop"),
        ("merge xl.safetensors --model demo --rescale --output new.safetensors", "this model takes"),
        ("merge cat.safetensors --method slerp --output new.safetensors", "takes exactly two"),
        (
            "merge cat.safetensors dog.safetensors --method slerp --weights 1 -1 --output new.safetensors",
            "not negative",
        ),
        (
            "merge cat.safetensors dog.safetensors --method concat --weights 1 1 --output new.safetensors",
            "concat takes",
        ),
        ("merge cat.safetensors --model demo --method concat --add man --output new.safetensors", "belong to a sum"),
        ("merge cat.safetensors --num-vectors 3 --output new.safetensors", "1 to 2 can be kept"),
        (
            "merge cat.safetensors dog.safetensors --method slerp --weights 1 inf --output new.safetensors",
            "weights must be finite numbers, got '1 inf'",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: str, sentence: str, capsys: Output) -> None:
    assert sentence in refused(arguments.split(), capsys)
