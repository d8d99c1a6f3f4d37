"""The dial on vectors alone: exact ends, one way between them, and sentences where there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ti_engine import TokenEmbedding
from ti_engine.word.dial import (
    Dialled,
    along_direction,
    calibrated_place,
    class_vectors,
    dial_lines,
    mean_angle,
    path_through,
    rising_knots,
)

POSITIONS = [number / 20 for number in range(21)]


def rows(seed: int, count: int = 1, width: int = 8, length: float = 1.0) -> Tensor:
    vectors = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return vectors / vectors.norm(dim=1, keepdim=True) * length


class Words:
    """A vocabulary of a few words. encoders: key -> width."""

    def __init__(self, encoders: Mapping[str, int], known: Mapping[str, float]) -> None:
        self._encoders, self._known = encoders, known

    def word_vectors(self, words: str) -> dict[str, Tensor]:
        tokens = self.word_tokens(words)["clip_l"]
        if unknown := [token for token in tokens if token not in self._known and token != ","]:
            raise ValueError(f"The model does not know {unknown[0]!r}.")
        return {
            key: torch.cat([rows(len(token), 1, width, self._known.get(token, 9.0)) for token in tokens])
            for key, width in self._encoders.items()
        }

    def word_tokens(self, words: str) -> dict[str, list[str]]:
        return {key: words.replace(",", " , ").split() for key in self._encoders}


WORDS = Words({"clip_l": 8, "clip_g": 6}, {"cat": 0.4, "black": 0.5, "bird": 0.6})
LEARNED = TokenEmbedding({"clip_l": rows(1, 2, 8, 3.0), "clip_g": rows(2, 2, 6, 2.0)}, "S*", {"note": "mine"})


def dialled(position: float, class_word: str = "cat") -> Dialled:
    return along_direction(LEARNED, class_word, position, WORDS)


def test_the_ends_are_the_class_word_and_the_learned_word_to_the_bit() -> None:
    start, end = dialled(0).word, dialled(1).word
    for key, vectors in WORDS.word_vectors("cat").items():
        assert torch.equal(start.vectors[key], vectors.repeat(2, 1))
        assert torch.equal(end.vectors[key], LEARNED.vectors[key])
    assert start.placeholder == end.placeholder == "S*"
    assert LEARNED.vectors["clip_l"] is not end.vectors["clip_l"]


def test_angle_and_length_of_every_vector_go_evenly_from_one_to_the_other() -> None:
    start = dialled(0).word
    for position in POSITIONS:
        word = dialled(position).word
        for key, learned in LEARNED.vectors.items():
            for first, now, last in zip(start.vectors[key], word.vectors[key], learned, strict=True):
                whole = mean_angle(first[None], last[None])
                assert mean_angle(first[None], now[None]) == pytest.approx(position * whole, abs=0.05)
                assert float(now.norm()) == pytest.approx(
                    (1 - position) * float(first.norm()) + position * float(last.norm()), rel=1e-5
                )


def test_it_is_the_form_of_test_time_embedding_adjustment() -> None:
    """Bui et al. 2025: the length (1 - alpha) |v| + alpha |c|, the direction slerp(v, c, rho); here rho = alpha."""
    rho = 0.2
    v, c = LEARNED.vectors["clip_l"][:1].double(), WORDS.word_vectors("cat")["clip_l"].double()
    angle = math.radians(mean_angle(v, c))
    direction = (math.sin((1 - rho) * angle) * v / v.norm() + math.sin(rho * angle) * c / c.norm()) / math.sin(angle)
    wanted = direction * ((1 - rho) * v.norm() + rho * c.norm())
    assert torch.allclose(dialled(1 - rho).word.vectors["clip_l"][:1].double(), wanted, atol=1e-6)


def test_tokens_of_the_class_word_are_spread_over_the_vectors_as_at_the_start_of_a_training() -> None:
    like = TokenEmbedding({"clip_l": rows(3, 4)})
    black, cat = WORDS.word_vectors("black cat")["clip_l"]
    start, left_out = class_vectors(WORDS, "black, cat", like)
    assert torch.equal(start.vectors["clip_l"], torch.stack([black, black, cat, cat])) and not left_out


def test_of_a_class_word_with_more_tokens_than_vectors_the_first_are_taken_and_the_others_named() -> None:
    two = dialled(0, "black, cat")
    assert torch.equal(two.word.vectors["clip_l"], WORDS.word_vectors("black cat")["clip_l"])
    assert not any("left out" in line for line in dial_lines(two))
    start = dialled(0, "black cat bird")
    assert torch.equal(start.word.vectors["clip_g"], WORDS.word_vectors("black cat")["clip_g"])
    assert dial_lines(start)[1] == '"black cat bird" has more tokens than the word has vectors; left out: bird.'


def test_an_encoder_that_splits_the_class_word_takes_its_first_token() -> None:
    class Pieces(Words):
        def word_tokens(self, words: str) -> dict[str, list[str]]:
            return {key: [words] if key == "clip_l" else [words[:2], words[2:]] for key in self._encoders}

        def word_vectors(self, words: str) -> dict[str, Tensor]:
            return {key: rows(3, 1 + (key == "t5xxl"), width) for key, width in self._encoders.items()}

    words = Pieces({"clip_l": 8, "t5xxl": 6}, {})
    learned = TokenEmbedding({"clip_l": rows(1, 1, 8), "t5xxl": rows(2, 1, 6)})
    half = along_direction(learned, "teapot", 0, words)
    assert torch.equal(half.word.vectors["t5xxl"], words.word_vectors("teapot")["t5xxl"][:1])
    assert half.left_out == "apot"


def test_it_says_how_far_the_word_was_turned() -> None:
    half = dialled(0.5, " cat ")
    for now, whole in half.turned.values():
        assert now == pytest.approx(whole / 2, abs=0.01)
    assert half.lengths["clip_l"] == pytest.approx((0.4, 1.7, 3.0), rel=1e-5)
    assert half.made_of == "cat (0.5), S* (0.5)" and dialled(1).made_of == ""
    assert half.prompts == ["S*", "S* cat"]
    lines = dial_lines(half)
    assert lines[0] == 'S*: position 0.5 from "cat" (0) to what was learned (1), along the direction.'
    assert lines[3].startswith("Not calibrated: 50% is a share of the angle")
    assert '"S* cat"' in lines[-1] and len(lines) == 5


@pytest.mark.parametrize("class_word", ["black", "cat"])
def test_a_word_that_was_trained_with_a_noun_is_written_with_it(class_word) -> None:
    half = along_direction(LEARNED, class_word, 0.5, WORDS, noun="cat")
    assert half.prompts == ["S* cat"]
    assert dial_lines(half)[-1] == 'In a prompt write "S* cat": the word was trained with this noun behind it.'


@pytest.mark.parametrize(
    ("learned", "class_word", "position", "sentence"),
    [
        (LEARNED, "", 0.5, "give the class word"),
        (LEARNED, "unicorn", 0.5, "does not know 'unicorn'"),
        (LEARNED, ",", 0.5, "',' holds no word; give the class word"),
        (LEARNED, "\u3001", 0.5, "holds no word"),
        (LEARNED, "cat", 1.5, "from 0 .* to 1 .*, got 1.5"),
        (LEARNED, "cat", math.nan, "got nan"),
        (TokenEmbedding({"t5xxl": rows(1)}), "cat", 0.5, "holds t5xxl of width 8, and the model has clip_l of width 8"),
        (TokenEmbedding({"clip_l": rows(1, width=9)}), "cat", 0.5, "clip_l of width 9"),
        (TokenEmbedding({"clip_l": torch.zeros(1, 8)}), "cat", 0.5, "S\\*: vector 1 of clip_l is zero"),
        (TokenEmbedding({"clip_l": -rows(3)}), "cat", 0.5, "points exactly away from 'cat'"),
    ],
)
def test_what_has_no_way_is_one_sentence(learned, class_word, position, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        along_direction(learned, class_word, position, WORDS)


def test_the_class_word_needs_a_vocabulary() -> None:
    with pytest.raises(ValueError, match="connect its CLIP, or name it with --model"):
        along_direction(LEARNED, "cat", 0.5, None)


def test_a_path_goes_through_its_states_at_an_even_pace() -> None:
    states = [{"clip_l": torch.tensor([[length, 0.0]])} for length in (1.0, 1.0, 2.0, 4.0)]
    path, kept = path_through(states)
    assert kept == [0, 2, 3] and path.places == [0.0, pytest.approx(1 / 3), 1.0]
    for number, place in zip(kept, path.places, strict=True):
        assert torch.equal(path.at(place)["clip_l"], states[number]["clip_l"])
    assert torch.allclose(path.at(0.5)["clip_l"], torch.tensor([[2.5, 0.0]]))


def test_a_path_has_no_jumps() -> None:
    states = [{"clip_l": rows(seed)} for seed in range(6)]
    path, _ = path_through(states)
    places = [number / 2000 for number in range(2001)]
    points = [path.at(place)["clip_l"] for place in places]
    # Five ways of at most 2 each between unit vectors, and an arc is at most pi / 2 times as long as its chord.
    assert max(float((a - b).norm()) for a, b in pairwise(points)) < 5 * 2 * math.pi / 2 / 2000


def test_a_word_that_never_moved_has_no_path() -> None:
    state = {"clip_l": rows(1)}
    with pytest.raises(ValueError, match="still where its training began"):
        path_through([state, dict(state)])


def test_a_position_is_the_share_of_the_fall_of_the_loss() -> None:
    knots = [(0.2, 0.5), (0.6, 0.9)]
    assert [calibrated_place(p, knots) for p in (0, 0.5, 0.9, 1)] == [0, 0.2, 0.6, 1]
    assert calibrated_place(0.25, knots) == pytest.approx(0.1)
    assert calibrated_place(0.7, knots) == pytest.approx(0.4)


@pytest.mark.parametrize(
    "knots",
    [
        [],
        [(0.1, 0.4), (0.3, 0.2), (0.5, 0.8), (0.7, 0.79)],  # noise
        [(0.1, -0.5), (0.4, 1.3), (0.8, 0.99)],  # worse than the class word, better than the result
        [(0.1, 0.999999), (0.2, 0.9999999)],
    ],
)
def test_noisy_losses_still_make_a_dial_that_never_goes_back(knots) -> None:
    places = [calibrated_place(position, rising_knots(knots)) for position in POSITIONS]
    assert places == sorted(places) and (places[0], places[-1]) == (0, 1)
    if not knots:
        assert places == POSITIONS


def test_only_losses_that_show_a_fall_are_counted() -> None:
    assert rising_knots([(0.1, 0.4), (0.3, 0.2), (0.5, 0.8), (0.7, 0.79)]) == [(0.1, 0.4), (0.5, 0.8)]
    assert rising_knots([(0.1, -0.5), (0.4, 1.3)]) == []
