"""Load Embedding: a learned word from a file in the host's embeddings folder."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from ..ti_engine import DEFAULT_PLACEHOLDER
from ..ti_engine.files import EmbeddingFile, StoredWord, read_embedding_file
from ..ti_engine.files.formats.contents import quoted
from ..ti_engine.files.load import MOST_LISTED
from ..ti_engine.word.inspection import vector_warnings
from ..ti_engine.word.placeholder import check_placeholder, composed, usable_placeholder
from .host.text.folders import embedding_files, embedding_path, file_fingerprint, folders_fingerprint, other_files_of
from .schema import CATEGORY, TIEmbedding, supported
from .shown.embedding_report import metadata_lines, printable, size_lines


class LoadEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return supported(
            io.Schema,
            node_id="TI_LoadEmbedding",
            display_name="Load Embedding",
            category=CATEGORY,
            description="Reads a learned word from a file in the embeddings folder, whichever program wrote it, for "
            "Encode Prompt with S*, Inspect Embedding and Merge Embeddings. It never executes code from a file.",
            search_aliases=["textual inversion", "import embedding"],
            has_intermediate_output=True,  # newer hosts show the report of a cached result again
            inputs=[
                supported(
                    io.Combo.Input,
                    "file",
                    options=embedding_files(),
                    tooltip="A file in models/embeddings: .safetensors, .pt, .bin, .pti, or a .png or .webp picture "
                    "that contains a word. Press R to read the list again.",
                ),
                supported(
                    io.String.Input,
                    "placeholder",
                    default="",
                    tooltip="Another placeholder, for example when two words have the same one. Empty: the one that "
                    "the file names.",
                ),
                supported(
                    io.String.Input,
                    "word",
                    default="",
                    optional=True,
                    tooltip="The name of the word you want, if the file holds several. Empty: the only one.",
                ),
            ],
            outputs=[
                TIEmbedding.Output(display_name="embedding", tooltip="The learned word."),
                io.String.Output(
                    display_name="report",
                    tooltip="Its placeholder, format, size, metadata and warnings; also shown on the node.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str | None, placeholder: str | None = "", word: str | None = None) -> str:
        if file is None:  # it comes from another node
            return folders_fingerprint()
        return file_fingerprint(embedding_path(file))

    @classmethod
    def execute(cls, file: str, placeholder: str = "", word: str | None = None) -> io.NodeOutput:
        content = read_embedding_file(embedding_path(file))
        stored = _chosen(content, (word or "").strip())
        called, placeholder = stored.embedding.placeholder, placeholder.strip()
        if placeholder:
            check_placeholder(placeholder)
        embedding = replace(
            stored.embedding, placeholder=placeholder or usable_placeholder(called) or DEFAULT_PLACEHOLDER
        )
        doubts = [*content.warnings, *vector_warnings(embedding)]
        if not placeholder and embedding.placeholder != called:
            doubts.append(f"The word is called {quoted([called])}, which prompts cannot contain; write another here.")
        lines = [
            f"{printable(file)} ({content.format}): write {printable(embedding.placeholder)} in the prompt.",
            *size_lines(embedding, stored.precisions),
            *metadata_lines(embedding),
            *(f"Warning: {warning}" for warning in doubts),
            *(f"Warning: {other} has the same name and is never read." for other in other_files_of(file)),
        ]
        report = "\n".join(lines)
        return io.NodeOutput(embedding, report, ui={"text": [report]})


def _chosen(file: EmbeddingFile, word: str) -> StoredWord:
    """The word called `word`, the only one where that is empty. ValueError with all names where it is not clear."""
    if len(file.words) == 1 and not word:
        return file.words[0]
    for stored in file.words:
        if composed(word) == stored.embedding.placeholder.strip():
            return stored
    count, holds = len(file.words), quoted((stored.embedding.placeholder for stored in file.words), MOST_LISTED)
    if word:
        raise ValueError(
            f"{printable(file.file)} holds no word {quoted([word])}; it holds {holds}. Write one of them into word."
        )
    raise ValueError(f"{printable(file.file)} holds {count} words: {holds}. Write the one you want into word.")
