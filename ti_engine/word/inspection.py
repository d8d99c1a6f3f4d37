"""What there is to say of the words in a file, ready for JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .families import and_list

if TYPE_CHECKING:
    from torch import Tensor

    from ..files import EmbeddingFile
    from ..training.backend import EncoderInfo
    from .embedding import TokenEmbedding

_NUM_NEAREST = 5
FAR_TOO_LONG = 20  # times a word's norm; words that work end at 2 to 8
_LARGEST_NUMBER = 65504  # of float16, in which most text encoders compute; those of words stay far below
_TOO_SHORT = 1 / 3  # of a word's norm; the vocabularies' own stay above it


class Vocabulary(Protocol):
    """The part of a `Backend` that knows a model's own words."""

    encoders: Mapping[str, EncoderInfo]

    def nearest_words(self, key: str, vector: Tensor, count: int) -> list[tuple[str, float]]: ...


def describe(file: EmbeddingFile, vocabulary: Vocabulary | None = None) -> dict[str, Any]:
    """Every word in `file`: shapes, norms, hashes, what the file says, and what to beware of.

    {"file", "format", "words": [{"name", "vectors": {encoder: {"shape", "dtype", "norms", "sha256_f32"}}, "metadata"}],
    "warnings"}. name: the trigger, None where the file names none. dtype: as stored. sha256_f32: of the vectors in
    float32, row by row, little-endian.
    vocabulary: that of the model the words are for; each encoder then also has "nearest_words", for each vector the
    five words of most similar direction with their cosines, and "vocabulary_norm", the norm of its median vector.
    """
    words, warnings = [], list(file.warnings)
    for stored in file.words:
        vectors = {
            key: _described(key, rows, stored.precisions[key], vocabulary)
            for key, rows in stored.embedding.vectors.items()
        }
        words.append({"name": stored.name, "vectors": vectors, "metadata": dict(stored.embedding.metadata)})
        prefix = f"{stored.embedding.placeholder}: " if len(file.words) > 1 else ""
        warnings += [prefix + warning for warning in vector_warnings(stored.embedding, vocabulary)]
    return {"file": file.file, "format": file.format, "words": words, "warnings": warnings}


def vector_warnings(embedding: TokenEmbedding, vocabulary: Vocabulary | None = None) -> list[str]:
    """A sentence for vectors that stand in the word twice and for absurd ones; with a vocabulary for far norms."""
    warnings = []
    for key, rows in embedding.vectors.items():
        for same in _repeated(rows):
            warnings.append(f"Vectors {and_list([str(number) for number in same])} of {key} are the same.")
        if is_beyond_encoders(rows):
            warnings.append(
                f"The vectors of {key} hold numbers up to {float(rows.abs().max()):.3g}. Text encoders in float16 "
                f"take numbers up to {_LARGEST_NUMBER}, and a word's are far smaller: no picture comes of these."
            )
        elif vocabulary is not None and key in vocabulary.encoders:
            warnings += _far_norms(key, rows.double().norm(dim=1), vocabulary.encoders[key].norm)
    return warnings


def growth_warnings(embedding: TokenEmbedding, parts: Sequence[TokenEmbedding]) -> list[str]:
    """A sentence for each encoder for which a word made of `parts` is far longer than they are; needs no vocabulary."""
    warnings = []
    for key, rows in embedding.vectors.items():
        longest, before = (max(_longest(word.vectors[key]) for word in words) for words in ([embedding], parts))
        if longest > FAR_TOO_LONG * before and not is_beyond_encoders(rows):
            warnings.append(
                f"A vector of {key} has norm {longest:.3g}, {longest / before:.0f}x the longest that went into it: it "
                "will dominate the prompt. Lower the weights."
            )
    return warnings


def _longest(rows: Tensor) -> float:
    return float(rows.double().norm(dim=1).max())


def is_beyond_encoders(rows: Tensor) -> bool:
    """Whether `rows` hold NaN, infinity, or numbers so large that text encoders make such of them."""
    return not bool((rows.abs() <= _LARGEST_NUMBER).all())


def _described(key: str, rows: Tensor, precision: str, vocabulary: Vocabulary | None) -> dict[str, Any]:
    content: dict[str, Any] = {
        "shape": list(rows.shape),
        "dtype": precision,
        "norms": rows.double().norm(dim=1).tolist(),
        "sha256_f32": hashlib.sha256(rows.contiguous().numpy().astype("<f4").tobytes()).hexdigest(),
    }
    if vocabulary is not None and key in vocabulary.encoders:
        nearest = [vocabulary.nearest_words(key, row, _NUM_NEAREST) for row in rows]
        content["nearest_words"] = [[[word, round(cosine, 4)] for word, cosine in words] for words in nearest]
        content["vocabulary_norm"] = round(vocabulary.encoders[key].norm, 6)
    return content


def _repeated(rows: Tensor) -> list[list[int]]:
    """The numbers, from 1, of rows that are the same bit by bit, in groups of two and more."""
    places: dict[bytes, list[int]] = {}
    for number, row in enumerate(rows.numpy(), 1):
        places.setdefault(row.tobytes(), []).append(number)
    return [same for same in places.values() if len(same) > 1]


def _far_norms(key: str, norms: Tensor, usual: float) -> list[str]:
    """A sentence for the longest vector if it is far longer than a word, and one for the shortest."""
    longest, shortest = int(norms.argmax()), int(norms.argmin())
    notes = []
    if (times := float(norms[longest]) / usual) > FAR_TOO_LONG:
        notes.append(
            f"Vector {longest + 1} of {key}: norm {norms[longest]:.3g} is {times:.0f}x a word's: it will dominate the "
            "prompt."
        )
    if (times := float(norms[shortest]) / usual) < _TOO_SHORT:
        notes.append(
            f"Vector {shortest + 1} of {key}: norm {norms[shortest]:.3g} is {times:.2g}x a word's: it will hardly be "
            "noticed."
        )
    return notes
