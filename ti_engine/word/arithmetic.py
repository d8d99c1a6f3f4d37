"""Words made of words. Nothing given is changed; sums are formed in float64 and rounded once.

What is made of several words has the placeholder of the first and no metadata: it is a new word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .embedding import TokenEmbedding
from .families import and_list, family_title

_OPPOSITE = -1 + 1e-6  # cosine
_PARALLEL = 1 - 1e-6


def weighted_sum(words: Sequence[TokenEmbedding], weights: Sequence[float]) -> TokenEmbedding:
    """weights[0] words[0] + weights[1] words[1] + ..., vector by vector; `king - man + woman` has the weights 1, -1, 1.

    A mixture has weights that add up to 1; nothing is normalised here.
    Raises ValueError for other encoders, numbers of vectors or of weights, and for a sum of zero or infinite length.
    """
    _check_alike(words, same_count=True)
    if len(weights) != len(words) or not all(math.isfinite(weight) for weight in weights):
        raise ValueError(f"{len(words)} words need as many weights, finite numbers; got {list(weights)}.")

    def total(parts: Sequence[Tensor]) -> Tensor:
        rows = sum((weight * rows for weight, rows in zip(weights, parts, strict=True)), torch.zeros_like(parts[0]))
        if not bool(rows.any(dim=1).all()):
            raise ValueError("The words cancel out: a vector is zero and would act as no word; choose other weights.")
        if not bool(rows.float().isfinite().all()):
            raise ValueError("The weights make the vectors longer than any number says; choose smaller ones.")
        return rows

    return _made_of(words, total)


def slerp(first: TokenEmbedding, second: TokenEmbedding, fraction: float) -> TokenEmbedding:
    """Spherical interpolation from `first` (fraction 0) to `second` (1), vector by vector (Shoemake 1985).

    The direction moves along the great circle between the two and the length changes linearly, so that the middle of
    two words is no shorter than they are, which it is in a sum. Raises ValueError for other encoders or numbers of
    vectors, a zero vector, and opposite directions, between which there is no one way.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"Between two words the fraction must be from 0 to 1, got {fraction}.")
    _check_alike([first, second], same_count=True)

    def between(parts: Sequence[Tensor]) -> Tensor:
        return torch.stack([_slerp(a, b, fraction) for a, b in zip(*parts, strict=True)])

    return _made_of([first, second], between)


def _slerp(a: Tensor, b: Tensor, fraction: float) -> Tensor:
    length_a, length_b = float(a.norm()), float(b.norm())
    if not length_a or not length_b:
        raise ValueError("A zero vector has no direction to start from; use a sum instead.")
    cosine = float(F.cosine_similarity(a, b, dim=0))
    if is_opposite(a, b):
        raise ValueError("Two vectors point in opposite directions, so no way between them is the one; use a sum.")
    if cosine > _PARALLEL:
        return torch.lerp(a, b, fraction)
    angle = math.acos(cosine)
    direction = math.sin((1 - fraction) * angle) * a / length_a + math.sin(fraction * angle) * b / length_b
    return direction / math.sin(angle) * ((1 - fraction) * length_a + fraction * length_b)


def is_opposite(a: Tensor, b: Tensor) -> bool:
    """Whether two vectors [width] point in opposite directions, between which there is no one way."""
    return float(F.cosine_similarity(a.double(), b.double(), dim=0)) < _OPPOSITE


def concatenate(words: Sequence[TokenEmbedding]) -> TokenEmbedding:
    """All vectors of all `words`, in their order: in a prompt the same as writing the words one after the other.

    Raises ValueError for other encoders.
    """
    _check_alike(words, same_count=False)
    return _made_of(words, lambda parts: torch.cat(list(parts)))


def repeated(word: TokenEmbedding, num_vectors: int) -> TokenEmbedding:
    """A word of one vector as `num_vectors` equal ones, to add a direction to each vector of another word.

    Raises ValueError if it has more than one.
    """
    if word.num_vectors != 1:
        raise ValueError(f"{word.placeholder} has {word.num_vectors} vectors; only one can be repeated.")
    return replace(word, vectors={key: rows.repeat(num_vectors, 1) for key, rows in word.vectors.items()})


def truncate(word: TokenEmbedding, num_vectors: int) -> TokenEmbedding:
    """`word` with its first `num_vectors` vectors alone. ValueError if it has fewer."""
    fewest = min(len(rows) for rows in word.vectors.values())
    if not 1 <= num_vectors <= fewest:
        raise ValueError(f"{word.placeholder} has {fewest} vectors; 1 to {fewest} can be kept, not {num_vectors}.")
    return replace(word, vectors={key: rows[:num_vectors].clone() for key, rows in word.vectors.items()})


def rescale(word: TokenEmbedding, norms: Mapping[str, float]) -> TokenEmbedding:
    """`word` with every vector at the length that `norms` has for its encoder, its direction unchanged.

    norms: encoder key -> length; the vocabulary's usual one is `Backend.encoders[key].norm`.
    Raises ValueError for an encoder without a norm and for a zero vector.
    """
    if missing := [key for key in word.vectors if key not in norms]:
        raise ValueError(
            f"{word.placeholder} has vectors for {and_list(missing)}, and the model has {and_list(list(norms))} alone."
        )

    def scaled(key: str, rows: Tensor) -> Tensor:
        lengths = rows.double().norm(dim=1, keepdim=True)
        if not bool(lengths.all()):
            raise ValueError(f"{word.placeholder} has a zero vector for {key}, which no factor makes longer.")
        return (rows.double() / lengths * norms[key]).float()

    return replace(word, vectors={key: scaled(key, rows) for key, rows in word.vectors.items()})


def _made_of(words: Sequence[TokenEmbedding], combine: Callable[[Sequence[Tensor]], Tensor]) -> TokenEmbedding:
    keys = words[0].vectors
    vectors = {key: combine([word.vectors[key].double() for word in words]).float() for key in keys}
    return TokenEmbedding(vectors, words[0].placeholder)


def _check_alike(words: Sequence[TokenEmbedding], same_count: bool) -> None:
    if not words:
        raise ValueError("There is no word to begin with; give at least one.")
    first = words[0]
    for other in words[1:]:
        if _sizes(other, 1) != _sizes(first, 1):
            raise ValueError(
                f"{first.placeholder} is a word of {family_title(first)} and {other.placeholder} one of "
                f"{family_title(other)}; only words of the same text encoders can be combined, and no word can be "
                "converted to others faithfully."
            )
        if same_count and _sizes(other, 0) != _sizes(first, 0):
            raise ValueError(
                f"{first.placeholder} has {_vector_counts(first)} and {other.placeholder} {_vector_counts(other)}; "
                "give them as many each (keep the first ones), or concatenate them."
            )


def _sizes(word: TokenEmbedding, axis: int) -> dict[str, int]:
    return {key: rows.shape[axis] for key, rows in word.vectors.items()}


def _vector_counts(word: TokenEmbedding) -> str:
    counts = _sizes(word, 0)
    if len(set(counts.values())) == 1:
        return f"{word.num_vectors} vector{'s' * (word.num_vectors > 1)}"
    return and_list([f"{count} vectors for {key}" for key, count in counts.items()])
