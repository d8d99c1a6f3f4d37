"""Which token of some words each vector starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from .families import and_list
from .token_text import is_punctuation

_MOST_NAMED = 8  # tokens in a sentence


class Vocabulary(Protocol):
    """The part of a `Backend` that knows a model's own words."""

    def word_vectors(self, words: str) -> dict[str, Tensor]: ...

    def word_tokens(self, words: str) -> dict[str, list[str]]: ...


def spread_vectors(
    rows: Mapping[str, Tensor], texts: Mapping[str, Sequence[str]], counts: Mapping[str, int]
) -> dict[str, Tensor]:
    """Encoder key -> float32 [counts, width], a copy: tokens that are no punctuation, spread over the vectors.

    rows: encoder key -> [tokens, width], of all tokens. texts: theirs, of which each encoder has one that is no
    punctuation. counts: of vectors.
    """
    places = {key: [n for n, text in enumerate(texts[key]) if not is_punctuation(text)] for key in counts}
    return {key: rows[key][[places[key][i] for i in spread(len(places[key]), n)]].clone() for key, n in counts.items()}


def spread(available: int, count: int) -> list[int]:
    """For each of `count` vectors the one of `available` tokens that it starts from: two over four are a, a, b, b, and
    of more tokens than vectors the first."""
    return [number * available // count if count > available else number for number in range(count)]


def without_punctuation(texts: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Encoder key -> the texts of the tokens that a vector can start from."""
    return {key: [text for text in tokens if not is_punctuation(text)] for key, tokens in texts.items()}


def unused_tokens(tokens: Mapping[str, Sequence[str]], counts: Mapping[str, int]) -> str:
    """The tokens that no vector starts from, by encoder where they differ, for a sentence; empty where all are used.

    tokens: as from `without_punctuation`. counts: encoder key -> vectors.
    """
    left = {key: texts[counts[key] :] for key, texts in tokens.items() if len(texts) > counts[key]}
    named = {
        f"{', '.join(texts[:_MOST_NAMED])}{', ...' * (len(texts) > _MOST_NAMED)}": key for key, texts in left.items()
    }
    return next(iter(named)) if len(named) == 1 else and_list([f"{texts} of {key}" for texts, key in named.items()])
