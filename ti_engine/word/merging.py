"""One word made of several, and words of a vocabulary added and subtracted; for the node and the command alike."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from .arithmetic import concatenate, repeated, rescale, slerp, truncate, weighted_sum
from .embedding import TokenEmbedding
from .families import and_list
from .inspection import growth_warnings

if TYPE_CHECKING:
    from torch import Tensor

    from ..training.backend import EncoderInfo

METHODS = {
    "sum": "the weighted sum, vector by vector",
    "slerp": "two words, turned from one to the other, so that the middle is as long as they are",
    "concat": "one word after the other: all vectors",
}
_COMMA_LISTS = re.compile(r",\s|\s,")
_SEPARATORS = re.compile(r"\s*;\s*|\s*,\s+|\s+,?")
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(?:e[-+]?\d+)?", re.IGNORECASE)


class Vocabulary(Protocol):
    """The part of a `Backend` that knows a model's own words."""

    encoders: Mapping[str, EncoderInfo]

    def word_vectors(self, words: str) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Term:
    """A word in a merge. name: what the result's origin calls it."""

    name: str
    weight: float
    word: TokenEmbedding


@dataclass(frozen=True, eq=False)
class Merged:
    """What came of a merge. made_of: "cat (0.6), dog (0.4)"; empty for one word that was cut or rescaled at the most,
    which keeps its placeholder and metadata. A new word has no metadata."""

    word: TokenEmbedding
    made_of: str
    warnings: list[str]


def merge(
    words: Sequence[tuple[str, TokenEmbedding]],
    method: str = "sum",
    weights: str = "",
    add: Sequence[str] = (),
    subtract: Sequence[str] = (),
    num_vectors: int | None = None,
    rescaled: bool = False,
    vocabulary: Vocabulary | None = None,
) -> Merged:
    """Merge `words`, each with the name that its origin is called.

    method: of METHODS. weights: see `parse_weights`. add, subtract: words of the vocabulary; one of a single token acts
    on every vector. num_vectors: use the first ones of each word alone. rescaled: give every vector the usual length of
    the vocabulary's. Raises ValueError for what cannot be merged.
    """
    if not words and not add:
        raise ValueError("There is nothing to merge; give embeddings, or words of the vocabulary to add.")
    if method != "sum" and (add or subtract):
        raise ValueError(f"Words to add and to subtract belong to a sum, not to {method}.")
    if vocabulary is None and (add or subtract or rescaled):
        raise ValueError(
            "To add and subtract words and to rescale needs the words of a model; connect its CLIP, or name it with "
            "--model."
        )
    if method == "concat" and weights.strip():
        raise ValueError("concat takes every vector as it is; leave the weights out, or choose a sum or slerp.")
    numbers = parse_weights(weights, len(words))
    if num_vectors:
        words = [(name, truncate(word, num_vectors)) for name, word in words]
    terms = [Term(name, weight, word) for (name, word), weight in zip(words, numbers, strict=True)]
    if vocabulary is not None:
        terms += _vocabulary_terms(vocabulary, add, subtract, words[0][1].num_vectors if words else 1)
    word, made_of = _combined(terms, method, is_one=len(words) == len(terms) == 1)
    warnings = [] if rescaled else growth_warnings(word, [term.word for term in terms])
    if rescaled and vocabulary is not None:
        word = rescale(word, {key: info.norm for key, info in vocabulary.encoders.items()})
    return Merged(word, made_of, warnings)


def parse_weights(text: str, count: int) -> list[float]:
    """A number for each of `count` words out of a text such as "0.7, 0.3"; empty: equal ones that add up to 1.

    Commas, semicolons and spaces part numbers. "0,7" is a number too where it cannot be two: beside others that
    semicolons or spaces part ("0,7 0,3"), and for one word. Raises ValueError for everything else, with what was read.
    """
    text = text.strip(" \t\r\n,;")
    if not text:
        return [1 / max(1, count)] * count
    parts = _SEPARATORS.split(text)
    is_decimal = not _COMMA_LISTS.search(text) and (len(parts) > 1 or count == 1)
    read = []
    for part in parts:
        if not _DECIMAL_COMMA.fullmatch(part):
            read += part.split(",")
        elif is_decimal:
            read.append(part.replace(",", "."))
        else:
            raise ValueError(
                f"weights {text!r}: the comma in {part} can part two numbers or stand for a decimal point; write "
                f"{part.replace(',', '.')} or {part.replace(',', '; ')}."
            )
    try:
        numbers = [float(number) for number in read]
    except ValueError as error:
        raise ValueError(f"weights must be numbers such as 0.7, 0.3; got {text!r}.") from error
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"weights must be finite numbers, got {text!r}.")
    if len(numbers) != count:
        raise ValueError(
            f"weights were read as {and_list([f'{number:g}' for number in numbers])}, which is {len(numbers)} for "
            f"{count} word{'s' * (count != 1)}; write one for each."
        )
    return numbers


def _vocabulary_terms(
    vocabulary: Vocabulary, add: Sequence[str], subtract: Sequence[str], num_vectors: int
) -> list[Term]:
    terms = []
    for text, weight in [*((text, 1.0) for text in add), *((text, -1.0) for text in subtract)]:
        word = TokenEmbedding(vocabulary.word_vectors(text), text)
        terms.append(Term(text, weight, repeated(word, num_vectors) if word.num_vectors == 1 else word))
    return terms


def _combined(terms: Sequence[Term], method: str, is_one: bool) -> tuple[TokenEmbedding, str]:
    """The word that the terms make, and what it is made of. is_one: whether the terms are one word and nothing else."""
    if is_one and terms[0].weight == 1 and method != "slerp":
        return terms[0].word, ""
    words = [replace(term.word, placeholder=term.name) for term in terms]  # two may both be called S*
    weights = [term.weight for term in terms]
    if method == "concat":
        return concatenate(words), made_of([term.name for term in terms])
    if method == "slerp":
        if len(words) != 2 or min(weights) < 0 or not 0 < sum(weights) < math.inf:
            raise ValueError("slerp takes exactly two embeddings, and weights that are not negative and not all zero.")
        return slerp(words[0], words[1], weights[1] / sum(weights)), made_of([t.name for t in terms], weights)
    return weighted_sum(words, weights), made_of([term.name for term in terms], weights)


def made_of(names: Sequence[str], weights: Sequence[float] | None = None) -> str:
    """Where a merged word comes from: "cat (0.6), dog (0.4)". `names`: of the words or their files, without paths."""
    without_commas = [name.replace(",", " ") for name in names]
    if weights is None:
        return ", ".join(without_commas)
    return ", ".join(f"{name} ({weight:.6g})" for name, weight in zip(without_commas, weights, strict=True))
