"""Merge Embeddings: one word of several, or a word changed by words that the model knows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from comfy_api.latest import io

from ..ti_engine import DEFAULT_PLACEHOLDER, TokenEmbedding
from ..ti_engine.files.formats.metadata import description_metadata, merged_names
from ..ti_engine.word import arithmetic
from ..ti_engine.word.families import describe_widths
from ..ti_engine.word.inspection import growth_warnings, vector_warnings
from ..ti_engine.word.placeholder import check_placeholder
from .host.models.vocabulary import ClipVocabulary
from .host.text.words import vectors_for
from .schema import CATEGORY, TIEmbedding, supported
from .shown.embedding_report import size_lines

SUM, SLERP, CONCAT = "weighted sum", "slerp", "concat"


@dataclass(frozen=True)
class Term:
    """A word in a merge. name: what the result's metadata calls it."""

    name: str
    weight: float
    word: TokenEmbedding


class MergeEmbeddings(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        more = "Another word, learned for the same kind of model."
        return supported(
            io.Schema,
            node_id="TI_MergeEmbeddings",
            display_name="Merge Embeddings",
            category=CATEGORY,
            description="Makes one word of several, or adds and subtracts words that the model knows: king - man + "
            "woman. All have to be for the same kind of model.",
            search_aliases=["textual inversion", "mix embeddings", "slerp", "king - man + woman"],
            has_intermediate_output=True,  # newer hosts show the report of a cached result again
            inputs=[
                TIEmbedding.Input("embedding", tooltip="The first word."),
                supported(
                    io.Combo.Input,
                    "method",
                    options=[SUM, SLERP, CONCAT],
                    tooltip="weighted sum: vector by vector. slerp: two words, turned from one to the other, so that "
                    "the middle is as long as they are. concat: one word after the other, with all vectors.",
                ),
                supported(
                    io.String.Input,
                    "weights",
                    default="",
                    tooltip="A number for each embedding, such as 0.7, 0.3; may be negative in a sum. Empty: equal, 1 "
                    "in all. concat takes none.",
                ),
                supported(
                    io.String.Input,
                    "add_words",
                    default="",
                    tooltip="Words of the model to add, separated by spaces. Needs a CLIP, and method weighted sum.",
                ),
                supported(
                    io.String.Input,
                    "subtract_words",
                    default="",
                    tooltip="Words of the model to subtract. Needs a CLIP, and method weighted sum.",
                ),
                supported(
                    io.Boolean.Input,
                    "rescale",
                    default=False,
                    tooltip="Give every vector the mean length of the model's own words. Needs a CLIP.",
                ),
                supported(
                    io.String.Input,
                    "placeholder",
                    default=DEFAULT_PLACEHOLDER,
                    tooltip="How prompts call the result.",
                ),
                *(TIEmbedding.Input(f"embedding_{number}", optional=True, tooltip=more) for number in (2, 3, 4)),
                io.Clip.Input(
                    "clip", optional=True, tooltip="The model's text encoder, for its words and their length."
                ),
                supported(
                    io.Int.Input,
                    "num_vectors",
                    default=0,
                    min=0,
                    max=512,
                    optional=True,
                    tooltip="Use the first vectors of each embedding alone, so that words of different sizes can be "
                    "added, or one be shortened. 0: all.",
                ),
            ],
            outputs=[
                TIEmbedding.Output(display_name="embedding", tooltip="The new word. Save it with Save Embedding."),
                io.String.Output(
                    display_name="report", tooltip="What it was made of, and its vectors; also shown on the node."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        embedding: TokenEmbedding,
        method: str,
        weights: str,
        add_words: str,
        subtract_words: str,
        rescale: bool,
        placeholder: str,
        embedding_2: TokenEmbedding | None = None,
        embedding_3: TokenEmbedding | None = None,
        embedding_4: TokenEmbedding | None = None,
        clip: Any = None,
        num_vectors: int | None = None,
    ) -> io.NodeOutput:
        given = [e for e in (embedding, embedding_2, embedding_3, embedding_4) if e is not None]
        added, subtracted = add_words.replace(",", " ").split(), subtract_words.replace(",", " ").split()
        placeholder = placeholder.strip()
        check_placeholder(placeholder)
        if method != SUM and (added or subtracted):
            raise ValueError(f"add_words and subtract_words belong to a weighted sum, not to {method}; empty them.")
        if len(given) == 1 and not (added or subtracted or rescale or num_vectors or weights.strip()):
            raise ValueError(
                "There is one word and nothing to do with it; connect embedding_2, or write words to add or subtract."
            )
        if num_vectors:
            given = [arithmetic.truncate(word, num_vectors) for word in given]
        vocabulary = None
        if added or subtracted or rescale:
            given, vocabulary = _for_clip(clip, given), ClipVocabulary(clip)
        terms = _terms(given, _numbers(weights, method, len(given)))
        if vocabulary is not None:
            terms += _vocabulary_terms(vocabulary, [(w, 1.0) for w in added] + [(w, -1.0) for w in subtracted], terms)
        merged = _merged(terms, method)
        if rescale and vocabulary is not None:
            merged = arithmetic.rescale(merged, {key: info.norm for key, info in vocabulary.encoders.items()})
        merged = replace(merged, placeholder=placeholder)
        made_of = merged.metadata["modelspec.merged_from"]
        cut = f", the first {num_vectors} vectors of each" if num_vectors else ""
        scaled = ", and every vector has the mean length of the model's own" if rescale else ""
        lines = [f"{merged.placeholder}: {method} of {made_of}{cut}{scaled}.", *size_lines(merged)]
        doubts = vector_warnings(merged, vocabulary)
        if vocabulary is None:
            doubts += growth_warnings(merged, given)
        lines += [f"Warning: {warning}" for warning in doubts]
        report = "\n".join(lines)
        return io.NodeOutput(merged, report, ui={"text": [report]})


def _numbers(text: str, method: str, count: int) -> list[float]:
    """A weight for each of `count` words. ValueError for other texts."""
    parts = [part for part in re.split(r"[,;\s]+", text) if part]
    if not parts:
        return [1 / count] * count
    if method == CONCAT:
        raise ValueError("concat takes every vector as it is; empty weights, or choose weighted sum or slerp.")
    try:
        numbers = [float(part) for part in parts]
    except ValueError as error:
        raise ValueError(f"weights must be numbers such as 0.7, 0.3; got {text!r}.") from error
    if len(numbers) != count:
        raise ValueError(f"weights holds {len(numbers)} numbers for {count} embedding(s); write one for each.")
    return numbers


def _for_clip(clip: Any, words: Sequence[TokenEmbedding]) -> list[TokenEmbedding]:
    """`words` under the CLIP's own encoder keys. ValueError if there is no CLIP or one of them does not fit it."""
    if clip is None:
        raise ValueError("add_words, subtract_words and rescale need the words of a model; connect its CLIP.")
    fitting = []
    for word in words:
        vectors = vectors_for(clip, word)
        if len(vectors) < len(word.vectors):
            holds, takes = ({key: rows.shape[1] for key, rows in v.items()} for v in (word.vectors, vectors))
            raise ValueError(
                f"{word.placeholder} holds {describe_widths(holds)}, and this CLIP has {describe_widths(takes)} alone; "
                "connect the CLIP of the model that the word was trained on."
            )
        fitting.append(replace(word, vectors=vectors))
    return fitting


def _terms(words: Sequence[TokenEmbedding], weights: Sequence[float]) -> list[Term]:
    """Under their placeholders; where two have the same, the input says which is which."""
    names = [word.placeholder for word in words]
    inputs = ["embedding", "embedding_2", "embedding_3", "embedding_4"]
    told = [f"{n} of {socket}" if names.count(n) > 1 else n for n, socket in zip(names, inputs, strict=False)]
    return [Term(name, weight, word) for name, weight, word in zip(told, weights, words, strict=True)]


def _vocabulary_terms(
    vocabulary: ClipVocabulary, weighted: Sequence[tuple[str, float]], terms: Sequence[Term]
) -> list[Term]:
    """The model's own words; one of a single token acts on every vector of the others."""
    count = terms[0].word.num_vectors
    found = []
    for text, weight in weighted:
        word = TokenEmbedding(vocabulary.word_vectors(text), text)
        found.append(Term(text, weight, arithmetic.repeated(word, count) if word.num_vectors == 1 else word))
    return found


def _merged(terms: Sequence[Term], method: str) -> TokenEmbedding:
    words = [replace(term.word, placeholder=term.name) for term in terms]
    weights = [term.weight for term in terms]
    if method == CONCAT:
        word = arithmetic.concatenate(words)
    elif method == SLERP:
        if len(words) != 2 or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
            raise ValueError("slerp takes exactly two embeddings, and weights that are not negative.")
        word = arithmetic.slerp(words[0], words[1], weights[1] / sum(weights))
    else:
        word = arithmetic.weighted_sum(words, weights)
    names = merged_names([term.name for term in terms], None if method == CONCAT else weights)
    return replace(word, metadata=description_metadata(merged_from=names))
