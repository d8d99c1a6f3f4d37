"""Save Embedding and Load Embedding: learned words as files in the host's embeddings folder."""

from __future__ import annotations

from comfy_api.latest import io

from ..ti_engine import TokenEmbedding
from ..ti_engine.files import load_embedding, save_embedding
from .host.folders import embedding_files, embedding_name, embedding_path, file_fingerprint, free_path, same_stem, slug
from .schema import CATEGORY, TIEmbedding, supported

_ENDING = ".safetensors"
_LONGEST_SAID = 300  # characters; a thumbnail or a whole workflow is not for reading


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
                io.String.Output(display_name="report", tooltip="Where the file is, and what to look out for."),
            ],
        )

    @classmethod
    def execute(cls, embedding: TokenEmbedding, name: str) -> io.NodeOutput:
        wanted = slug(name)
        try:
            path = free_path(wanted)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_embedding(embedding, path)
        except OSError as error:
            raise ValueError(
                f"{wanted} cannot be written ({error.strerror or error}). Free some space or allow writing there, and "
                "run again: the trained embedding is still in memory, nothing is trained twice."
            ) from error
        written = embedding_name(path)
        lines = [f"Saved as embedding:{written} in {path}"]
        if written != wanted:
            lines.append(f"{wanted} existed already and was left as it is.")
        elif wanted != name.removesuffix(_ENDING):
            lines.append(f"The name {name!r} was changed so that prompts can contain it.")
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
            description="Reads a learned word from the embeddings folder, for Encode Prompt with S*.",
            search_aliases=["textual inversion", "import embedding"],
            inputs=[
                supported(
                    io.Combo.Input,
                    "file",
                    options=[name for name in embedding_files() if name.endswith(_ENDING)],
                    tooltip="A .safetensors file in models/embeddings. Press R to read the list again.",
                ),
                supported(
                    io.String.Input,
                    "placeholder",
                    default="",
                    tooltip="Another placeholder than the file's own, for example when two words have the same. "
                    "Empty: the file's own.",
                ),
            ],
            outputs=[
                TIEmbedding.Output(display_name="embedding", tooltip="The learned word."),
                io.String.Output(display_name="report", tooltip="Its placeholder, size, and what the file says of it."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, placeholder: str = "") -> str:
        return file_fingerprint(embedding_path(file))

    @classmethod
    def execute(cls, file: str, placeholder: str = "") -> io.NodeOutput:
        embedding = load_embedding(embedding_path(file))
        if placeholder.strip():
            embedding = TokenEmbedding(embedding.vectors, placeholder.strip(), embedding.metadata)
        sizes = ", ".join(f"{len(rows)} x {rows.shape[1]} for {key}" for key, rows in embedding.vectors.items())
        says = [f"{key}: {text}" for key, text in sorted(embedding.metadata.items()) if len(text) <= _LONGEST_SAID]
        report = "\n".join([f"{file}: write {embedding.placeholder} in the prompt. Vectors: {sizes}.", *says])
        return io.NodeOutput(embedding, report)
