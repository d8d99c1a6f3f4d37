"""Fidelity-Editability: a learned word anywhere between its class word and its full likeness."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..ti_engine import TokenEmbedding
from ..ti_engine.files.formats.metadata import class_noun, initial_words, moved_metadata
from ..ti_engine.run.dial import along_trajectory, steps_of
from ..ti_engine.run.folder import RunFolder
from ..ti_engine.word.dial import PATHS, along_direction, dial_lines
from .host.models.vocabulary import ClipVocabulary
from .host.text.words import fitted
from .schema import CATEGORY, TIEmbedding, TIRun, supported
from .shown.embedding_report import printable


class Dial(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return supported(
            io.Schema,
            node_id="TI_Dial",
            display_name="Fidelity-Editability",
            category=CATEGORY,
            description="Turns a learned word back towards its class word, after training and at once: prompts are "
            "usually followed better, with less likeness.",
            search_aliases=["textual inversion", "strength", "slerp", "editability", "trade-off", "weaken embedding"],
            has_intermediate_output=True,  # newer hosts show the report of a cached result again
            inputs=[
                TIEmbedding.Input(
                    "embedding", tooltip="The word, from Load Embedding, Load Run or Train Textual Inversion."
                ),
                supported(
                    io.Float.Input,
                    "position",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="0: the class word. 1: what was learned. Along direction, prompts are usually followed the "
                    "better, and the likeness is usually the lower, the nearer it is to 0.",
                ),
                supported(
                    io.Combo.Input,
                    "path",
                    options=list(PATHS),
                    tooltip="direction: turns the class word into the learned one on the shortest way; needs clip. "
                    "trajectory: through the states that the run had while it learned; needs run.",
                ),
                supported(
                    io.String.Input,
                    "class_word",
                    default="",
                    tooltip="What the thing is, such as cat. Empty: the initial words of the training, where the word "
                    "says them. Along the trajectory it is for prompts only.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The text encoder of the model that the word is for, to look up the class word.",
                ),
                TIRun.Input(
                    "run", optional=True, tooltip="The run that the word is of, from Load Run, for the trajectory."
                ),
            ],
            outputs=[
                TIEmbedding.Output(display_name="embedding", tooltip="The word at this position."),
                io.String.Output(
                    display_name="report",
                    tooltip="How far the word was turned, what the position means, and what to write in a prompt; also "
                    "shown on the node.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        embedding: TokenEmbedding,
        position: float,
        path: str,
        class_word: str,
        clip: Any = None,
        run: RunFolder | None = None,
    ) -> io.NodeOutput:
        class_word = class_word.strip() or initial_words(embedding.metadata)
        noun = class_noun(embedding.metadata)
        if path == "direction":
            if clip is None:
                raise ValueError("The path direction looks the class word up in the model's vocabulary; connect clip.")
            dialled = along_direction(fitted(clip, embedding), class_word, position, ClipVocabulary(clip), noun)
        elif run is None:
            raise ValueError(
                "The path trajectory needs the states of the run; connect run, of the Load Run or Train Textual "
                "Inversion that the embedding comes from, or choose the path direction."
            )
        else:
            saved = run.saved()
            dialled = along_trajectory(saved.record, steps_of(saved, embedding), embedding, position, class_word, noun)
        given = embedding.metadata
        metadata = moved_metadata(given, dialled.made_of) if dialled.made_of else given
        report = "\n".join(printable(line) for line in dial_lines(dialled))
        return io.NodeOutput(replace(dialled.word, metadata=metadata), report, ui={"text": [report]})
