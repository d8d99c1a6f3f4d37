"""Merge Embeddings: one word of several, or a word changed by words that the model knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..ti_engine import DEFAULT_PLACEHOLDER, TokenEmbedding
from ..ti_engine.files.formats.metadata import description_metadata
from ..ti_engine.word.inspection import vector_warnings
from ..ti_engine.word.merging import merge
from ..ti_engine.word.placeholder import check_placeholder
from .host.models.vocabulary import ClipVocabulary
from .host.text.words import fitted
from .schema import CATEGORY, TIEmbedding, supported
from .shown.embedding_report import size_lines

_METHODS = {"weighted sum": "sum", "slerp": "slerp", "concat": "concat"}  # as the node and as the engine call them


class MergeEmbeddings(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        more = "Another word, learned for the same kind of model."
        return supported(
            io.Schema,
            node_id="TI_MergeEmbeddings",
            display_name="Merge Embeddings",
            category=CATEGORY,
            description="Combines several words into one, or adds and subtracts words of the model's vocabulary: king "
            "- man + woman. All must belong to the same family of models.",
            search_aliases=["textual inversion", "mix embeddings", "slerp", "king - man + woman"],
            has_intermediate_output=True,  # newer hosts show the report of a cached result again
            inputs=[
                TIEmbedding.Input("embedding", tooltip="The first word."),
                supported(
                    io.Combo.Input,
                    "method",
                    options=list(_METHODS),
                    tooltip="weighted sum: adds vector by vector. slerp: turns the vectors of one word towards those "
                    "of another and keeps their length. concat: all vectors, one word after the other.",
                ),
                supported(
                    io.String.Input,
                    "weights",
                    default="",
                    tooltip="A number for each embedding, such as 0.7; 0.3. May be negative in a sum. Empty: equal, 1 "
                    "in all. concat takes none.",
                ),
                supported(
                    io.String.Input,
                    "add_words",
                    default="",
                    tooltip="Words of the vocabulary to add, separated by spaces. Needs a CLIP; weighted sum only.",
                ),
                supported(
                    io.String.Input,
                    "subtract_words",
                    default="",
                    tooltip="Words of the vocabulary to subtract. Needs a CLIP; weighted sum only.",
                ),
                supported(
                    io.Boolean.Input,
                    "rescale",
                    default=False,
                    tooltip="Gives every vector the usual length of the model's own words. Needs a CLIP.",
                ),
                supported(
                    io.String.Input,
                    "placeholder",
                    default=DEFAULT_PLACEHOLDER,
                    tooltip="The placeholder of the new word in prompts.",
                ),
                *(TIEmbedding.Input(f"embedding_{number}", optional=True, tooltip=more) for number in (2, 3, 4)),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The model's text encoder, for its vocabulary and the length of its words.",
                ),
                supported(
                    io.Int.Input,
                    "num_vectors",
                    default=0,
                    min=0,
                    max=512,
                    optional=True,
                    tooltip="Use only this many vectors of each word, the first ones: to add words of different sizes, "
                    "or to shorten one. 0: all.",
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
        if len(given) == 1 and not (added or subtracted or rescale or num_vectors or weights.strip()):
            raise ValueError(
                "There is one word and nothing to do with it; connect embedding_2, or write words to add or subtract."
            )
        vocabulary = None
        if clip is not None and (added or subtracted or rescale):
            given, vocabulary = [fitted(clip, word) for word in given], ClipVocabulary(clip)
        words = list(zip(_names(given), given, strict=True))
        result = merge(words, _METHODS[method], weights, added, subtracted, num_vectors, rescale, vocabulary)
        merged = replace(result.word, placeholder=placeholder)
        if result.made_of:
            merged = replace(merged, metadata=description_metadata(merged_from=result.made_of))
        origin = f"{method} of {result.made_of}" if result.made_of else given[0].placeholder
        cut = f", the first {num_vectors} vectors of each" if num_vectors else ""
        scaled = ", and every vector has the usual length of the model's own words" if rescale else ""
        lines = [f"{merged.placeholder}: {origin}{cut}{scaled}.", *size_lines(merged)]
        lines += [f"Warning: {warning}" for warning in [*vector_warnings(merged, vocabulary), *result.warnings]]
        report = "\n".join(lines)
        return io.NodeOutput(merged, report, ui={"text": [report]})


def _names(words: Sequence[TokenEmbedding]) -> list[str]:
    """Their placeholders; where two have the same, the input says which is which."""
    names = [word.placeholder for word in words]
    inputs = ["embedding", "embedding_2", "embedding_3", "embedding_4"]
    return [f"{n} of {socket}" if names.count(n) > 1 else n for n, socket in zip(names, inputs, strict=False)]
