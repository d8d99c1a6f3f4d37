"""What the user sees: one file a subject, thin; `host/` alone touches ComfyUI's inner parts."""

from __future__ import annotations

import logging

from comfy_api.latest import ComfyExtension, io

from .dial import Dial
from .encode_prompt import EncodePrompt
from .host.page.routes import add_routes
from .inspect_embedding import InspectEmbedding
from .load_demo_model import LoadDemoModel
from .load_embedding import LoadEmbedding
from .load_run import LoadRun
from .merge_embeddings import MergeEmbeddings
from .pick_step import PickStep
from .save_embedding import SaveEmbedding
from .score_images import ScoreImages
from .train import Train
from .train_options import TrainOptions

NODES: list[type[io.ComfyNode]] = [
    Train,
    LoadEmbedding,
    EncodePrompt,
    SaveEmbedding,
    LoadDemoModel,
    InspectEmbedding,
    MergeEmbeddings,
    TrainOptions,
    LoadRun,
    PickStep,
    Dial,
    ScoreImages,
]


class TextualInversionExtension(ComfyExtension):
    """The list of nodes that the host asks for."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        for node in NODES:
            try:
                node.define_schema()
            except Exception:
                # The host would print one line without the place of the error and skip the nodes after it.
                logging.exception("The node %s of Textual Inversion could not be defined", node.__name__)
                raise
        add_routes()
        return NODES
