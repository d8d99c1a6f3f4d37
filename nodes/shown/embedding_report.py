"""What the nodes say of a word: its size, where it comes from, and what its file says."""

from __future__ import annotations

from collections.abc import Mapping

from ...ti_engine import TokenEmbedding
from ...ti_engine.files.formats.contents import quoted
from ...ti_engine.files.formats.metadata import RECORD_KEY, training_record
from ...ti_engine.word.families import FAMILIES, family_of

_LONGEST_SHOWN = 300  # characters; a thumbnail or a whole workflow is not for reading


def printable(text: str) -> str:
    """Text from a file on one line, without characters that would look like something of the report's own."""
    return text if text.isprintable() else ascii(text)


def size_lines(embedding: TokenEmbedding, precisions: Mapping[str, str] | None = None) -> list[str]:
    """A line with the vectors of each encoder, and one with the models that have exactly these encoders.

    precisions: encoder key -> number format in the file.
    """
    lines = []
    for key, rows in embedding.vectors.items():
        stored = f", stored as {precisions[key]}" if precisions else ""
        lines.append(f"{quoted([key])}: {len(rows)} vector{'s' * (len(rows) > 1)} of width {rows.shape[1]}{stored}.")
    family = family_of(embedding)
    return [*lines, f"It is a word for {FAMILIES[family].title}."] if family else lines


def metadata_lines(embedding: TokenEmbedding) -> list[str]:
    """A line for each entry that a person can read, and one for how the word was trained, if that is known."""
    says = [
        f"{quoted([key])}: {printable(text)}"
        for key, text in sorted(embedding.metadata.items())
        if len(text) <= _LONGEST_SHOWN and key != RECORD_KEY
    ]
    return [*_training_lines(embedding), *says]


def _training_lines(embedding: TokenEmbedding) -> list[str]:
    record = training_record(embedding.metadata)
    model = record.get("model")
    if not isinstance(model, dict):
        return []
    name, pictures, steps = (
        quoted([str(value)]) for value in (model.get("name"), record.get("num_pictures"), record.get("steps"))
    )
    return [f"Trained on {name} with {pictures} picture(s) in {steps} steps."]
