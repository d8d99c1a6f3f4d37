"""Pick Step: any state of a run as a word, and a contact sheet to choose from."""

from __future__ import annotations

import secrets
from typing import Any

import torch
from comfy_api.latest import io

from ..ti_engine import TokenEmbedding
from ..ti_engine.data.captions import fill_slot
from ..ti_engine.data.contact_sheet import contact_sheet
from ..ti_engine.files.formats.metadata import class_noun
from ..ti_engine.run.folder import RunFolder, SavedRun
from ..ti_engine.run.pick import pick_word, spread_steps, steps_between
from .host.blocked import blocked
from .host.drawing import draw_pictures
from .host.page.pictures import save_temporary_picture
from .schema import CATEGORY, LARGEST_EXACT, TIEmbedding, TIRun, supported
from .shown.image_batch import image_batch
from .shown.run_report import pick_report

_MOST_STEPS = 1_000_000
_PROMPTS = "a photo of {}\na photo of {} on a beach"


class PickStep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        for_sheet = "Of the checkpoint that the run was trained with, to draw the sheet. Connect all three or none."
        return supported(
            io.Schema,
            node_id="TI_PickStep",
            display_name="Pick Step",
            category=CATEGORY,
            description="Takes any step of a run as the word, or the mean of several, without training again. With a "
            "model it draws a sheet of steps and prompts to choose from.",
            search_aliases=["textual inversion", "choose step", "contact sheet", "average checkpoints", "overfitting"],
            is_output_node=True,  # it can run alone, and every host shows a cached result's report and sheet again
            inputs=[
                TIRun.Input("run", tooltip="The run, from Load Run or Train Textual Inversion."),
                supported(
                    io.Combo.Input,
                    "what",
                    options=["result", "step", "average"],
                    tooltip="result: the word that the run returned. step: the vectors after one step. average: the "
                    "mean of the vectors after the steps from first to step.",
                ),
                supported(
                    io.Int.Input,
                    "step",
                    default=-1,
                    min=-_MOST_STEPS,
                    max=_MOST_STEPS,
                    tooltip="The step, or the last step of the average. 0: before training. -1: the last step of the "
                    "run, -2 the one before it, and so on.",
                ),
                supported(
                    io.Int.Input,
                    "first",
                    default=-10,
                    min=-_MOST_STEPS,
                    max=_MOST_STEPS,
                    tooltip="The first step of the average. With first -10 and step -1 it is the mean of the last ten.",
                ),
                supported(
                    io.String.Input,
                    "prompts",
                    default=_PROMPTS,
                    multiline=True,
                    tooltip="The rows of the sheet, a prompt a line. {} or the placeholder is the word. The default "
                    "prompts name the class_noun of the training, too.",
                ),
                supported(
                    io.Int.Input,
                    "columns",
                    default=5,
                    min=0,
                    max=50,
                    tooltip="Steps that the sheet shows, evenly from the first to the last. The picked word has a "
                    "column of its own unless it is one of them. 0: only the picked word.",
                ),
                supported(
                    io.Int.Input,
                    "seed",
                    default=0,
                    min=0,
                    max=LARGEST_EXACT,
                    control_after_generate=False,
                    tooltip="Seed of all pictures of the sheet.",
                ),
                io.Model.Input("model", optional=True, tooltip=for_sheet),
                io.Clip.Input("clip", optional=True, tooltip=for_sheet),
                io.Vae.Input("vae", optional=True, tooltip=for_sheet),
            ],
            outputs=[
                TIEmbedding.Output(
                    display_name="embedding",
                    tooltip="The word, for Encode Prompt with S*, Save Embedding or another training.",
                ),
                io.Image.Output(
                    display_name="sheet",
                    tooltip="Steps from left to right, prompts from top to bottom. Needs model, clip and vae.",
                ),
                io.String.Output(
                    display_name="report", tooltip="Which steps the word is from; also shown on the node."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        run: RunFolder,
        what: str,
        step: int,
        first: int,
        prompts: str,
        columns: int,
        seed: int,
        model: Any = None,
        clip: Any = None,
        vae: Any = None,
    ) -> io.NodeOutput:
        missing = [name for name, given in (("model", model), ("clip", clip), ("vae", vae)) if given is None]
        if 0 < len(missing) < 3:
            raise ValueError(f"The sheet needs {' and '.join(missing)} too; connect all three or none.")
        saved = run.saved()
        steps = _chosen_steps(saved, what, step, first)
        word = pick_word(saved, steps)
        if missing:
            report = pick_report(saved, word, steps)
            no_sheet = blocked("Pick Step draws its sheet with a model; connect model, clip and vae.")
            return io.NodeOutput(word, no_sheet, report, ui={"text": [report]})
        noun = class_noun(word.metadata) if prompts == _PROMPTS else ""
        texts = _filled(prompts.replace("{}", f"{{}} {noun}") if noun else prompts, word.placeholder)
        compared = _compared_words(saved, word, steps, columns)
        wanted = [(text, one) for _, one in compared for text in texts]
        resolution = int(run.config().get("settings", {}).get("resolution", 0))
        pictures = torch.stack(draw_pictures(model, clip, vae, wanted, seed, resolution))
        drawn = list(zip([caption for caption, _ in compared], pictures.split(len(texts)), strict=True))
        sheet = contact_sheet(drawn)
        report = pick_report(saved, word, steps, texts, [caption for caption, _ in drawn])
        on_node = save_temporary_picture(sheet, f"textual_inversion_{secrets.token_hex(4)}")
        return io.NodeOutput(word, image_batch(sheet), report, ui={"text": [report], "images": [on_node]})


def _chosen_steps(saved: SavedRun, what: str, step: int, first: int) -> range:
    """The steps whose mean the word is."""
    if what == "result":
        return saved.record.returned
    return steps_between(saved, first if what == "average" else step, step)


def _filled(prompts: str, placeholder: str) -> list[str]:
    """The prompts with the placeholder in them. Raises ValueError for one that does not contain it."""
    lines = [line.strip() for line in prompts.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"prompts is empty; write a prompt a line, such as: a photo of {placeholder}")
    filled = []
    for line in lines:
        try:
            filled.append(fill_slot(line, placeholder))
        except ValueError as error:
            raise ValueError(
                f"The prompt {line!r} does not contain {placeholder}; write {placeholder} or {{}} where the word "
                "belongs."
            ) from error
    return filled


def _compared_words(
    saved: SavedRun, word: TokenEmbedding, steps: range, columns: int
) -> list[tuple[str, TokenEmbedding]]:
    """The columns of the sheet: a caption and a word each, with the picked one among them."""
    spread = spread_steps(saved, columns)
    shown = [(f"step {step}", saved.record.embedding(step)) for step in spread]
    if len(steps) == 1 and steps[0] in spread:
        place = spread.index(steps[0])
        return [*shown[:place], (f"step {steps[0]} (picked)", word), *shown[place + 1 :]]
    of = f"step {steps[0]}" if len(steps) == 1 else f"mean of {steps[0]} to {steps[-1]}{_every(steps)}"
    return [*shown, (f"{of} (picked)", word)]


def _every(steps: range) -> str:
    return "" if steps.step == 1 else f", every {steps.step}"
