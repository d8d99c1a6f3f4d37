"""`textual-inversion merge`: one word of several, or a word changed by words of the vocabulary."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..files.formats.metadata import description_metadata, merged_names
from ..standalone import DiffusersBackend
from ..word.arithmetic import concatenate, repeated, rescale, slerp, truncate, weighted_sum
from ..word.embedding import TokenEmbedding
from ..word.inspection import growth_warnings
from .model_flags import add_model_flags, open_model
from .word_files import add_output_flags, output_of, read_word, show, write_word

DESCRIPTION = (
    "Make one word of several, cut or rescale one, or add and subtract words of a model's vocabulary: "
    "king - man + woman is `merge king.safetensors --subtract man --add woman --model MODEL`."
)


_METHODS = {
    "sum": "the weighted sum, vector by vector",
    "slerp": "two words, turned from one to the other",
    "concat": "one word after the other: all vectors",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="embedding files")
    parser.add_argument(
        "--method", choices=_METHODS, default="sum", help=f"{'; '.join(f'{k}: {v}' for k, v in _METHODS.items())} [sum]"
    )
    parser.add_argument("--weights", nargs="+", type=float, metavar="X", help="one for each file [equal, 1 in all]")
    parser.add_argument("--add", nargs="+", default=[], metavar="WORD", help="words of the vocabulary to add")
    parser.add_argument("--subtract", nargs="+", default=[], metavar="WORD", help="words of the vocabulary to subtract")
    parser.add_argument("--num-vectors", type=int, metavar="N", help="use the first N vectors of each file alone")
    parser.add_argument(
        "--rescale", action="store_true", help="give every vector the mean length of the vocabulary's vectors"
    )
    add_output_flags(parser)
    add_model_flags(parser, required=False)


@dataclass(frozen=True)
class Term:
    """A word in a sum, and what the report calls it."""

    name: str
    weight: float
    word: TokenEmbedding


def run(arguments: argparse.Namespace) -> int:
    if not arguments.model and (arguments.add or arguments.subtract or arguments.rescale):
        raise ValueError("--add, --subtract and --rescale need the vocabulary of a model; name it with --model.")

    output = output_of(arguments)
    backend = open_model(arguments) if arguments.model else None
    terms, warnings = _file_terms(arguments, backend)
    if backend is not None:
        terms += _vocabulary_terms(arguments, backend, terms)
    word = _combined(terms, arguments, output.stem)
    if not arguments.rescale:
        warnings += growth_warnings(word, [term.word for term in terms])
    if arguments.rescale and backend is not None:
        word = rescale(word, {key: info.norm for key, info in backend.encoders.items()})
    return show([write_word(word, output, arguments)], warnings, arguments.json)


def _file_terms(arguments: argparse.Namespace, backend: DiffusersBackend | None) -> tuple[list[Term], list[str]]:

    encoders = None if backend is None else {info.width: key for key, info in backend.encoders.items()}
    count = len(arguments.files)
    weights = arguments.weights or [1 / max(1, count)] * count
    if len(weights) != count:
        raise ValueError(f"There are {count} files and {len(weights)} --weights; give one for each file.")
    if not all(map(math.isfinite, weights)):
        raise ValueError(f"--weights must be finite numbers, got {' '.join(map(str, weights))}.")
    terms, warnings = [], []
    for file, weight in zip(arguments.files, weights, strict=True):
        word, said = read_word(file, encoder_for_width=encoders)
        warnings += [f"{Path(file).name}: {warning}" for warning in said]
        if arguments.num_vectors is not None:
            word = truncate(word, arguments.num_vectors)
        terms.append(Term(Path(file).stem, weight, word))
    return terms, warnings


def _vocabulary_terms(arguments: argparse.Namespace, backend: DiffusersBackend, files: Sequence[Term]) -> list[Term]:
    """The words to add and to subtract; one of a single token acts on every vector of the files."""

    count = files[0].word.num_vectors if files else 1
    terms = []
    for text, weight in [*((text, 1.0) for text in arguments.add), *((text, -1.0) for text in arguments.subtract)]:
        word = TokenEmbedding(backend.word_vectors(text), text)
        terms.append(Term(text, weight, repeated(word, count) if word.num_vectors == 1 else word))
    return terms


def _combined(terms: Sequence[Term], arguments: argparse.Namespace, name: str) -> TokenEmbedding:
    """The word that the terms make, called `name`; a single file's word stays what it is."""

    if not terms:
        raise ValueError("There is nothing to merge; give embedding files, or words of the vocabulary with --add.")
    if arguments.method != "sum" and (arguments.add or arguments.subtract):
        raise ValueError(f"--add and --subtract belong to a sum, not to --method {arguments.method}.")
    if len(terms) == 1 and terms[0].weight == 1 and arguments.files and arguments.method != "slerp":
        return terms[0].word
    words = [replace(term.word, placeholder=term.name) for term in terms]  # two files may both say S*
    weights = [term.weight for term in terms]
    if arguments.method == "concat":
        if arguments.weights:
            raise ValueError("--weights belong to --method sum and slerp; concat takes every vector as it is.")
        word, weights = concatenate(words), None
    elif arguments.method == "slerp":
        if len(words) != 2 or min(weights) < 0 or not sum(weights) > 0:
            raise ValueError("--method slerp takes two files, and weights that are not negative.")
        word = slerp(words[0], words[1], weights[1] / sum(weights))
    else:
        word = weighted_sum(words, weights)
    merged = description_metadata(merged_from=merged_names([term.name for term in terms], weights))
    return replace(word, placeholder=name, metadata=merged)
