"""Training Options: every setting of a run that Train Textual Inversion has no widget for."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

from ..ti_engine import TrainConfig
from .schema import CATEGORY, TITrainOptions, setting, supported

WIDGETS_OF_TRAIN = (
    "steps", "learning_rate", "batch_size", "num_vectors", "initial_words", "placeholder", "what", "seed",
    "resolution", "preview_every",
)  # fmt: skip
_FROM_CAPTIONS = ("templates",)  # the captions input of Train brings them


def option_names() -> list[str]:
    """The settings of TrainConfig that are left for this node, in their order there."""
    elsewhere = (*WIDGETS_OF_TRAIN, *_FROM_CAPTIONS)
    return [one.name for one in fields(TrainConfig) if one.name not in elsewhere]


class TrainOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return supported(
            io.Schema,
            node_id="TI_TrainOptions",
            display_name="Training Options",
            category=CATEGORY,
            description="Settings of Train Textual Inversion that you seldom need to change. A setting that you "
            "leave at its default has no effect.",
            search_aliases=["training settings", "gradient checkpointing", "learning rate schedule", "train_encoders"],
            inputs=[setting(name) for name in option_names()],
            outputs=[
                TITrainOptions.Output(
                    display_name="options", tooltip="For the options input of Train Textual Inversion."
                )
            ],
        )

    @classmethod
    def execute(cls, **settings: Any) -> io.NodeOutput:
        given = {name: _value(name, value) for name, value in settings.items()}
        TrainConfig.from_dict({**_together(given), **given})  # a wrong value is told at this node
        return io.NodeOutput(given)


def _value(name: str, value: Any) -> Any:
    """A list of texts is one text with commas in a widget."""
    if isinstance(getattr(TrainConfig, name), tuple):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _together(given: dict[str, Any]) -> dict[str, Any]:
    """Values of Train's widgets with which the others cannot clash: that is checked there, with the real ones."""
    return {"batch_size": given["gradient_accumulation_steps"]}
