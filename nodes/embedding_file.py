"""Save Embedding and Load Embedding: learned words as files in the host's embeddings folder."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..ti_engine import DEFAULT_PLACEHOLDER, TokenEmbedding
from ..ti_engine.files import EmbeddingFile, StoredWord, read_embedding_file, save_embedding
from ..ti_engine.files.contents import shown
from ..ti_engine.files.load import MOST_LISTED
from ..ti_engine.files.metadata import shortened
from ..ti_engine.inspection import vector_warnings
from ..ti_engine.placeholder import check_placeholder, usable_placeholder
from .embedding_report import metadata_lines, plain, size_lines
from .host.folders import (
    embedding_files,
    embedding_name,
    embedding_path,
    file_fingerprint,
    folders_fingerprint,
    free_path,
    other_files_of,
    same_stem,
    slug,
)
from .schema import CATEGORY, TIEmbedding, supported

_ENDING = ".safetensors"
_written: dict[str, Path] = {}  # name as given -> the file that was last written for it
_num_lost: Counter[str] = Counter()  # name as given -> how many of its files were found to be gone


class SaveEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return supported(
            io.Schema,
            node_id="TI_SaveEmbedding",
            display_name="Save Embedding",
            category=CATEGORY,
            description="Writes a learned word into the embeddings folder. It can be used at once, here and in every "
            "CLIP Text Encode as embedding:name. A file that exists is never overwritten.",
            search_aliases=["textual inversion", "export embedding"],
            is_output_node=True,
            inputs=[
                TIEmbedding.Input("embedding", tooltip="The learned word to save."),
                supported(
                    io.String.Input,
                    "name",
                    default="my-word",
                    tooltip="Name of the file; sub-folders with a slash, such as pets/cat. Is it taken, -2, -3 ... is "
                    "added.",
                ),
            ],
            outputs=[
                TIEmbedding.Output(display_name="embedding", tooltip="The same embedding, unchanged."),
                io.String.Output(display_name="name", tooltip="What to write in a prompt: embedding:name"),
                io.String.Output(
                    display_name="report",
                    tooltip="Where the file is, and what to look out for; also shown on the node.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None, **_: Any) -> int:
        """Another number once the file that was written for `name` has gone, so that it is written again.

        It only ever rises: a number that fell back when the file is there again would make the host save it twice.
        """
        if name is not None and name in _written and not os.path.lexists(_written[name]):
            del _written[name]
            _num_lost[name] += 1
        return 0 if name is None else _num_lost[name]  # None: it comes from another node

    @classmethod
    def execute(cls, embedding: TokenEmbedding, name: str) -> io.NodeOutput:
        wanted = slug(name)
        short, left_out = shortened(embedding)
        try:
            path = _saved(short, wanted)
        except OSError as error:
            raise ValueError(
                f"{error} Cure that or choose another name, and run again: the embedding is still in memory, nothing "
                "is trained twice."
            ) from error
        _written[name] = path
        written = embedding_name(path)
        lines = [f"Saved as embedding:{written} in {path}"]
        if written != wanted:
            lines.append(f"{wanted} existed already and was left as it is.")
        elif wanted != name.removesuffix(_ENDING):
            lines.append(f"The name {name!r} was changed so that prompts can contain it.")
        if left_out:
            lines.append(f"Too long for a word and left out: {', '.join(map(plain, left_out))}.")
        lines += [
            f"Warning: {other} has the same name. Where two files share a name, ComfyUI picks one at random for it; "
            f"write embedding:{written} with its folder, or rename one."
            for other in same_stem(path)
        ]
        report = "\n".join(lines)
        return io.NodeOutput(embedding, f"embedding:{written}", report, ui={"text": [report]})


class LoadEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return supported(
            io.Schema,
            node_id="TI_LoadEmbedding",
            display_name="Load Embedding",
            category=CATEGORY,
            description="Reads a learned word from a file in the embeddings folder, whichever program wrote it, for "
            "Encode Prompt with S*, Inspect Embedding and Merge Embeddings. Nothing in a file is ever run.",
            search_aliases=["textual inversion", "import embedding"],
            has_intermediate_output=True,  # newer hosts show the report of a cached result again
            inputs=[
                supported(
                    io.Combo.Input,
                    "file",
                    options=embedding_files(),
                    tooltip="A file in models/embeddings: .safetensors, .pt, .bin, .pti, or a .png or .webp picture "
                    "that carries a word. Press R to read the list again.",
                ),
                supported(
                    io.String.Input,
                    "placeholder",
                    default="",
                    tooltip="Another placeholder than the file's own, for example when two words have the same. "
                    "Empty: the file's own.",
                ),
                supported(
                    io.String.Input,
                    "word",
                    default="",
                    optional=True,
                    tooltip="Which word, if the file holds several, as the file calls it. Empty: the only one.",
                ),
            ],
            outputs=[
                TIEmbedding.Output(display_name="embedding", tooltip="The learned word."),
                io.String.Output(
                    display_name="report",
                    tooltip="Its placeholder, format and size, what the file says, and warnings; on the node, too.",
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
            doubts.append(f"The word is called {shown([called])}, which prompts cannot contain; write another here.")
        lines = [
            f"{plain(file)} ({content.format}): write {plain(embedding.placeholder)} in the prompt.",
            *size_lines(embedding, stored.precisions),
            *metadata_lines(embedding),
            *(f"Warning: {warning}" for warning in doubts),
            *(f"Warning: {other} has the same name and is never read." for other in other_files_of(file)),
        ]
        report = "\n".join(lines)
        return io.NodeOutput(embedding, report, ui={"text": [report]})


def _saved(embedding: TokenEmbedding, name: str) -> Path:
    """The file that `embedding` was written to, whoever else saves at the same moment."""
    while True:
        path = free_path(name)
        try:
            save_embedding(embedding, path)
        except FileExistsError:  # it has come since: the next name
            continue
        return path


def _chosen(file: EmbeddingFile, word: str) -> StoredWord:
    """The word called `word`, the only one where that is empty. ValueError with all names where it is not clear."""
    if len(file.words) == 1 and not word:
        return file.words[0]
    for stored in file.words:
        if word == stored.embedding.placeholder.strip():
            return stored
    count, holds = len(file.words), shown((stored.embedding.placeholder for stored in file.words), MOST_LISTED)
    if word:
        raise ValueError(
            f"{plain(file.file)} holds no word {shown([word])}; it holds {holds}. Write one of them into word."
        )
    raise ValueError(f"{plain(file.file)} holds {count} words: {holds}. Write the one you want into word.")
