"""Load Run: a run on disk, finished or not, with its word and its pictures."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..ti_engine.run.folder import RunFolder
from ..ti_engine.run.pick import pick_word
from .host.blocked import blocked
from .host.run_store import run_store
from .run_entries import chosen_run, run_entries, run_fingerprint
from .schema import CATEGORY, TIEmbedding, TIRun, supported
from .shown.run_report import run_report


class LoadRun(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return supported(
            io.Schema,
            node_id="TI_LoadRun",
            display_name="Load Run",
            category=CATEGORY,
            description="Finds a run of Train Textual Inversion on disk, finished or not: for Pick Step, or for its "
            "word and its pictures. It trains nothing.",
            search_aliases=["textual inversion", "training run", "resume", "history"],
            is_output_node=True,  # it can run alone, and every host shows a cached result's report again
            inputs=[
                supported(
                    io.Combo.Input,
                    "run",
                    options=run_entries(run_store()),
                    tooltip="The runs in the output folder, the newest first: word, time, steps, beginning of the id. "
                    "Press R to read the list again.",
                ),
            ],
            outputs=[
                TIRun.Output(display_name="run", tooltip="The whole run, for Pick Step."),
                TIEmbedding.Output(
                    display_name="embedding",
                    tooltip="The word that the run returned; of a run that is not finished, what it would return now.",
                ),
                io.Image.Output(
                    display_name="samples",
                    tooltip="The preview pictures in the order of their steps; that of the result comes last.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="Settings, steps, loss, speed and place of the run; also shown on the node.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, run: str | None = None) -> bool | str:
        if run is not None:  # it does not come from another node
            try:
                chosen_run(run_store(), str(run))
            except ValueError as error:
                return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, run: str | None = None) -> str:
        store = run_store()
        folders = map(store.folder, store.ids()) if run is None else [chosen_run(store, run)]
        return " ".join(map(run_fingerprint, folders))

    @classmethod
    def execute(cls, run: str) -> io.NodeOutput:
        store = run_store()
        folder = chosen_run(store, run)
        saved = folder.saved()
        word = pick_word(saved, None)
        report = run_report(saved, folder.config(), f"{store.root.name}/{folder.id} of the output folder", word)
        # The start is no learned word, and must not be saved as one.
        embedding = word if saved.step else blocked(f"The run {folder.id} has not learned anything yet.")
        return io.NodeOutput(folder, embedding, _previews(folder), report, ui={"text": [report]})


def _previews(folder: RunFolder) -> Any:
    """The preview pictures as IMAGE, those of one size. The page shows them without being told."""
    previews = [picture for _, picture in folder.previews()]
    if not previews:
        return blocked(f"The run {folder.id} has no preview pictures.")
    return torch.stack([picture for picture in previews if picture.shape == previews[-1].shape]).movedim(1, -1)
