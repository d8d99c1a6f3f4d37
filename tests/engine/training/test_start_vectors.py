import re

import pytest
import torch
from toy import WORDS, ToyBackend, toy_config

from ti_engine import TokenEmbedding, setting_warnings
from ti_engine.training.start_vectors import initial_vectors, start_sentence
from ti_engine.word.token_text import is_punctuation, token_text

TWO_ENCODERS = {"clip_l": 6, "clip_g": 5}


def row(backend: ToyBackend, word: str, key: str = "clip_l") -> list[float]:
    return backend.table[key][WORDS.index(word)].tolist()


@pytest.mark.parametrize(
    ("words", "count", "expected"),
    [
        ("ball", 1, ["ball"]),
        ("ball", 3, ["ball", "ball", "ball"]),
        ("red ball", 2, ["red", "ball"]),
        ("red ball", 4, ["red", "red", "ball", "ball"]),
        ("red ball", 3, ["red", "red", "ball"]),
        ("red round ball", 5, ["red", "red", "round", "round", "ball"]),
    ],
)
def test_words_are_spread_over_the_vectors_in_their_order(words, count, expected):
    backend = ToyBackend(widths=TWO_ENCODERS)
    vectors = initial_vectors(backend, toy_config(initial_words=words, num_vectors=count))
    for key in TWO_ENCODERS:
        assert vectors[key].tolist() == [row(backend, word, key) for word in expected]


class WithPunctuation(ToyBackend):
    """Its tokenizer cuts words at punctuation, which are tokens as well; those of clip_g are cut otherwise."""

    def word_tokens(self, words: str) -> dict[str, list[str]]:
        texts = re.findall(r"\w+|[^\w\s]", words)
        return {
            key: texts if key == "clip_l" else [part for text in texts for part in (text, "")] for key in self.table
        }

    def word_vectors(self, words: str) -> dict[str, torch.Tensor]:
        def vector(text: str, key: str) -> torch.Tensor:
            rows = self.table[key].float()
            return rows[WORDS.index(text)] if text in WORDS else torch.full((rows.shape[1],), 9.0)

        tokens = self.word_tokens(words)
        return {key: torch.stack([vector(text, key) for text in texts]) for key, texts in tokens.items()}


@pytest.mark.parametrize(
    ("words", "count", "expected"),
    [
        ("red, ball", 2, ["red", "ball"]),
        ("red,ball.", 3, ["red", "red", "ball"]),
        ("(red) - ball!", 2, ["red", "ball"]),
        ("red\uff0cround\u3001ball", 3, ["red", "round", "ball"]),
        ("red, round, ball", 2, ["red", "round"]),
    ],
)
def test_no_vector_starts_from_punctuation(words, count, expected):
    backend, config = WithPunctuation(widths=TWO_ENCODERS), toy_config(initial_words=words, num_vectors=count)
    vectors = initial_vectors(backend, config)
    for key in TWO_ENCODERS:
        assert vectors[key].tolist() == [row(backend, word, key) for word in expected]
    told = ", ".join(f"{number} {word}" for number, word in enumerate(expected, 1))
    assert start_sentence(backend, config) == f"Started from these tokens, vector by vector: {told}."


@pytest.mark.parametrize("words", [",", " - ", "\u3001!"])
def test_punctuation_alone_is_no_start(words):
    with pytest.raises(ValueError, match="holds no word"):
        initial_vectors(WithPunctuation(), toy_config(initial_words=words))


def test_what_else_vectors_start_from_is_told():
    backend = ToyBackend(widths=TWO_ENCODERS)
    assert start_sentence(backend, toy_config()) == "Started from random vectors."
    word = TokenEmbedding({key: torch.ones(1, width) for key, width in TWO_ENCODERS.items()}, "fox")
    assert start_sentence(backend, toy_config(), word) == "Started from the vectors of fox."


def test_encoders_that_cut_words_otherwise_are_told_apart():
    class Pieces(ToyBackend):
        def word_tokens(self, words):
            return {key: [words] if key == "clip_l" else [words[:2], words[2:]] for key in self.table}

        def word_vectors(self, words):
            return {key: self.table[key][: len(texts)].float() for key, texts in self.word_tokens(words).items()}

    backend, config = Pieces(widths=TWO_ENCODERS), toy_config(initial_words="round", num_vectors=2)
    told = start_sentence(backend, config)
    assert told == "Started from these tokens, vector by vector: 1 round, 2 round (clip_l) and 1 ro, 2 und (clip_g)."
    (warning,) = setting_warnings(backend, toy_config(initial_words="round"), 4)
    assert "no vector starts from und. Set num_vectors to 2, or choose fewer words" in warning


def test_initial_words_beside_an_embedding_are_refused():
    with pytest.raises(ValueError, match=r"either from an embedding .* or from initial_words, which are 'red'"):
        initial_vectors(ToyBackend(), toy_config(initial_words="red"), TokenEmbedding({"clip_l": torch.ones(1, 6)}))


@pytest.mark.parametrize(
    ("token", "text", "is_sign"),
    [
        ("heart</w>", "heart", False),
        ("\u2581heart", "heart", False),
        ("\u0120heart", "heart", False),
        (",</w>", ",", True),
        ("\u2581", "", True),
        ("'s</w>", "'s", False),
        ("--", "--", True),
        ("\u00b0\u0143", "\u00b0\u0143", False),
    ],
)
def test_tokens_are_told_as_a_person_writes_them(token, text, is_sign):
    assert token_text(token) == text and is_punctuation(text) == is_sign


def test_an_unknown_word_is_refused_by_the_backends_sentence():
    with pytest.raises(ValueError, match="does not hold zyxw"):
        initial_vectors(ToyBackend(), toy_config(initial_words="red zyxw"))


@pytest.mark.parametrize("rms", [0.014, 0.5])
def test_random_vectors_have_the_scale_of_the_vocabulary(rms):
    backend = ToyBackend(widths={"clip_l": 400}, rms=rms)
    vectors = initial_vectors(backend, toy_config(num_vectors=8))["clip_l"]
    assert vectors.shape == (8, 400)
    assert float(vectors.square().mean().sqrt()) == pytest.approx(rms, rel=0.05)
    assert abs(float(vectors.mean())) < 0.05 * rms


def test_random_vectors_come_from_the_seed_alone():
    backend = ToyBackend(widths=TWO_ENCODERS)
    before = torch.get_rng_state()
    first, again, other = (initial_vectors(backend, toy_config(seed=seed)) for seed in (1, 1, 2))
    for key in TWO_ENCODERS:
        assert torch.equal(first[key], again[key])
        assert not torch.equal(first[key], other[key])
    assert torch.equal(torch.get_rng_state(), before)


def test_blank_words_mean_random():
    vectors = initial_vectors(ToyBackend(), toy_config(initial_words="  "))
    assert torch.equal(vectors["clip_l"], initial_vectors(ToyBackend(), toy_config())["clip_l"])


def test_an_embedding_is_taken_over_exactly_and_never_changed():
    rows = {key: torch.randn(2, width).half() for key, width in TWO_ENCODERS.items()}
    start = TokenEmbedding({**rows, "t5xxl": torch.ones(2, 3)})
    vectors = initial_vectors(ToyBackend(widths=TWO_ENCODERS), toy_config(num_vectors=2), start)
    assert set(vectors) == set(TWO_ENCODERS)
    for key in TWO_ENCODERS:
        assert vectors[key].dtype == torch.float32
        assert torch.equal(vectors[key], rows[key].float())
        vectors[key] += 1
        assert not torch.equal(vectors[key], start.vectors[key].float())


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ({"clip_l": torch.zeros(1, 7)}, "holds clip_l of width 7; this model needs clip_l of width 6"),
        ({"clip_g": torch.zeros(1, 6)}, "holds clip_g of width 6; this model needs clip_l of width 6"),
        ({"clip_l": torch.zeros(2, 6)}, "has 2 vectors, num_vectors is 1; make them equal"),
    ],
)
def test_an_embedding_that_does_not_fit_is_refused(rows, sentence):
    with pytest.raises(ValueError, match=sentence):
        initial_vectors(ToyBackend(), toy_config(), TokenEmbedding(rows))


def test_more_vectors_than_a_prompt_holds_are_refused():
    assert len(initial_vectors(ToyBackend(), toy_config(num_vectors=8))["clip_l"]) == 8
    with pytest.raises(ValueError, match="num_vectors is 9, but a prompt of clip_l holds 8; use fewer"):
        initial_vectors(ToyBackend(), toy_config(num_vectors=9))
