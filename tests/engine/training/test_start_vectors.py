import pytest
import torch
from toy import WORDS, ToyBackend, toy_config

from ti_engine import TokenEmbedding
from ti_engine.training.start_vectors import initial_vectors

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
