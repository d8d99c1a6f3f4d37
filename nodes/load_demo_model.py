"""Load Demo Model: a small model that comes with the project, so everything can be tried without a download."""

from __future__ import annotations

from comfy_api.latest import io

from ..ti_engine.demo.examples import example_pictures
from .host.models.demo import load_demo_models
from .schema import CATEGORY, supported


class LoadDemoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return supported(
            io.Schema,
            node_id="TI_LoadDemoModel",
            display_name="Load Demo Model",
            category=CATEGORY,
            description="Loads a small text-to-image model for pictures of 128 x 128, and four pictures to learn from. "
            "Both come with Textual Inversion. The model runs on a CPU and works with every core node.",
            search_aliases=["textual inversion demo", "toy model"],
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The demo model's UNet. Sample with cfg 3."),
                io.Clip.Output(display_name="clip", tooltip="Its text encoder. It knows about 90 words."),
                io.Vae.Output(display_name="vae", tooltip="Its autoencoder."),
                io.Image.Output(
                    display_name="images", tooltip="Four example pictures of one thing, to learn a word from."
                ),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_demo_models(), example_pictures().movedim(1, -1))
