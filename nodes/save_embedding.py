"""Save Embedding: a learned word as a file in the host's embeddings folder."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from comfy_api.latest import io

from ..ti_engine import TokenEmbedding
from ..ti_engine.files import save_embedding
from ..ti_engine.files.formats.metadata import shortened
from .host.text.folders import embedding_name, free_path, same_stem, slug
from .schema import CATEGORY, TIEmbedding, supported
from .shown.embedding_report import printable

_ENDING = ".safetensors"


class SaveEmbedding(io.ComfyNode):
    _written: ClassVar[dict[str, Path]] = {}
    """Name as given -> the file that was last written for it."""
    _num_lost: ClassVar[Counter[str]] = Counter()
    """Name as given -> how many of its files were found to be gone."""

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
                    tooltip="Name of the file. A slash makes a sub-folder, such as pets/cat. If the name is taken, the "
                    "node adds -2, -3 and so on.",
                ),
            ],
            outputs=[
                TIEmbedding.Output(display_name="embedding", tooltip="The same embedding, unchanged."),
                io.String.Output(display_name="name", tooltip="What to write in a prompt: embedding:name"),
                io.String.Output(
                    display_name="report",
                    tooltip="Where the file is, and warnings; also shown on the node.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None, **_: Any) -> int:
        """Another number once the file that was written for `name` has gone, so that it is written again.

        It only ever rises: a number that fell back when the file is there again would make the host save it twice.
        """
        if name is not None and name in cls._written and not os.path.lexists(cls._written[name]):
            del cls._written[name]
            cls._num_lost[name] += 1
        return 0 if name is None else cls._num_lost[name]  # None: it comes from another node

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
        cls._written[name] = path
        written = embedding_name(path)
        lines = [f"Saved as embedding:{written} in {path}"]
        if written != wanted:
            lines.append(f"{wanted} existed already and was left as it is.")
        elif wanted != name.removesuffix(_ENDING):
            lines.append(f"The name {name!r} was changed so that prompts can contain it.")
        if left_out:
            lines.append(f"Too long for a word and left out: {', '.join(map(printable, left_out))}.")
        lines += [
            f"Warning: {other} has the same name. Where two files share a name, ComfyUI picks one at random for it; "
            f"write embedding:{written} with its folder, or rename one."
            for other in same_stem(path)
        ]
        report = "\n".join(lines)
        return io.NodeOutput(embedding, f"embedding:{written}", report, ui={"text": [report]})


def _saved(embedding: TokenEmbedding, name: str) -> Path:
    """The file that `embedding` was written to, whoever else saves at the same moment."""
    while True:
        path = free_path(name)
        try:
            save_embedding(embedding, path)
        except FileExistsError:  # it has come since: the next name
            continue
        return path
