"""Encode Prompt with S*: a prompt in which learned words mean what was learned."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..ti_engine import TokenEmbedding
from .host.text.named_files import names_fingerprint
from .host.text.words import encode_prompt
from .schema import CATEGORY, TIEmbedding, supported


class EncodePrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        more = "Another word for the same text. It needs a different placeholder."
        return supported(
            io.Schema,
            node_id="TI_EncodePrompt",
            display_name="Encode Prompt with S*",
            category=CATEGORY,
            description="Works like CLIP Text Encode, and also understands learned words. Write the placeholder of a "
            "connected embedding, such as S*, or <name> for a file in the embeddings folder. Weights such as (S*:1.2), "
            "commas, {a|b} and repeated use work as with other words.",
            search_aliases=["textual inversion", "embedding", "clip text encode", "S*"],
            has_intermediate_output=True,  # newer hosts show the report of a cached result again
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the model that the embedding was trained on."),
                supported(
                    io.String.Input,
                    "text",
                    default="a photo of S*",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The prompt, with the placeholder where the learned word belongs. <name> or <folder/name> "
                    "stands for a file in models/embeddings; upper and lower case are the same.",
                ),
                TIEmbedding.Input(
                    "embedding",
                    optional=True,
                    tooltip="The learned word. Without one, and without a <name> in the text, this node does exactly "
                    "what CLIP Text Encode does.",
                ),
                TIEmbedding.Input("embedding_2", optional=True, tooltip=more),
                TIEmbedding.Input("embedding_3", optional=True, tooltip=more),
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning", tooltip="For a sampler, as from CLIP Text Encode."),
                io.String.Output(
                    display_name="report",
                    tooltip="Which words were applied, and at which tokens; also shown on the node.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, text: str | None = None, **_: Any) -> str:
        return names_fingerprint(text)  # which is None where it comes from another node

    @classmethod
    def execute(
        cls,
        clip: Any,
        text: str,
        embedding: TokenEmbedding | None = None,
        embedding_2: TokenEmbedding | None = None,
        embedding_3: TokenEmbedding | None = None,
    ) -> io.NodeOutput:
        connected = [e for e in (embedding, embedding_2, embedding_3) if e is not None]
        conditioning, report = encode_prompt(clip, text, connected)
        return io.NodeOutput(conditioning, report, ui={"text": [report]})
