"""Inspect Embedding: what a word holds, measured against the vocabulary of the model it is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..ti_engine import TokenEmbedding
from ..ti_engine.word.inspection import vector_warnings
from .host.models.vocabulary import ClipVocabulary
from .host.text.words import vectors_for
from .schema import CATEGORY, TIEmbedding, supported
from .shown.embedding_report import metadata_lines, size_lines
from .shown.norm_plot import norm_plot

_NEAREST = 5


class InspectEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return supported(
            io.Schema,
            node_id="TI_InspectEmbedding",
            display_name="Inspect Embedding",
            category=CATEGORY,
            description="Shows what a learned word contains: its vectors and their lengths, what its file says, and "
            "warnings. With a CLIP also the words of the vocabulary that are nearest to each vector.",
            search_aliases=["textual inversion", "embedding info", "nearest words"],
            is_output_node=True,
            inputs=[
                TIEmbedding.Input("embedding", tooltip="The word, from Load Embedding or Train Textual Inversion."),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The text encoder of the model that the word is for. The node then compares the word with "
                    "the model's vocabulary.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="What the word contains; also shown on the node."),
                io.Image.Output(
                    display_name="norms",
                    tooltip="A bar for the length of each vector; with a CLIP a line for the usual length of a word.",
                ),
            ],
        )

    @classmethod
    def execute(cls, embedding: TokenEmbedding, clip: Any = None) -> io.NodeOutput:
        vocabulary, misfit = None, []
        if clip is not None:
            try:
                fitting = vectors_for(clip, embedding)
            except ValueError as error:
                misfit = [str(error)]
            else:
                others = {} if len(fitting) == len(embedding.vectors) else embedding.vectors
                embedding, vocabulary = replace(embedding, vectors=others | fitting), ClipVocabulary(clip)
        lines = [f"{embedding.placeholder}:", *size_lines(embedding)]
        for key in embedding.vectors:
            lines += _row_lines(embedding, key, vocabulary)
        lines += metadata_lines(embedding)
        lines += [f"Warning: {warning}" for warning in [*misfit, *vector_warnings(embedding, vocabulary)]]
        report = "\n".join(lines)
        usual = {} if vocabulary is None else {key: info.norm for key, info in vocabulary.encoders.items()}
        return io.NodeOutput(report, norm_plot(embedding, usual), ui={"text": [report]})


def _row_lines(embedding: TokenEmbedding, key: str, vocabulary: ClipVocabulary | None) -> list[str]:
    """A line for each vector of an encoder."""
    compared = vocabulary if vocabulary is not None and key in vocabulary.encoders else None
    usual = f" (a word's is usually {compared.encoders[key].norm:.4g})" if compared else ""
    lines = [f"Norms for {key}{usual}:"]
    for number, row in enumerate(embedding.vectors[key], 1):
        nearest = ""
        if compared:
            words = compared.nearest_words(key, row, _NEAREST)
            nearest = f"; nearest words {', '.join(f'{word} {cosine:.2f}' for word, cosine in words)}"
        lines.append(f"  {number}: {float(row.double().norm()):.4g}{nearest}")
    return lines
