"""Score Images: how like the training pictures some pictures are, and how well they show a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from comfy_api.latest import io
from torch import Tensor

from ..ti_engine.data.transparency import over_white
from ..ti_engine.evaluation.cosines import cosine_of_mean, pairwise_cosines, patch_likeness
from ..ti_engine.evaluation.foreground import foreground
from ..ti_engine.evaluation.intervals import mean_among_themselves, mean_of_pairs, mean_of_prompts
from ..ti_engine.evaluation.prompts import text_without_word
from ..ti_engine.word.placeholder import other_names, split_at_placeholder
from .host.blocked import blocked
from .host.clip_scorer import HostScorer
from .schema import CATEGORY, supported
from .shown.score_report import ImageScores, score_report

_Value = TypeVar("_Value")
_TRAINED_ON = (
    "The likeness to pictures that were trained on flatters the word; if you have held some out, connect those."
)
_BACKGROUNDS = "Backgrounds count in the likeness; masks take them out."
_ONE_SIDED = "Only one of the two sides has masks, so backgrounds count on the other."


class ScoreImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        mask = "White on the thing: one mask for each picture, or one for all. The rest of a picture becomes grey."
        return supported(
            io.Schema,
            node_id="TI_ScoreImages",
            display_name="Score Images",
            category=CATEGORY,
            description="Scores pictures of a learned word: how like the training pictures they are and, with a text, "
            "how well they show it, as in the paper: cosines between vectors of CLIP. Both have an interval.",
            search_aliases=["textual inversion", "evaluate", "clip score", "likeness", "dino", "similarity"],
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Image.Input("pictures", tooltip="The pictures to score, such as eight of: a photo of S*."),
                io.Image.Input(
                    "training_pictures",
                    tooltip="What they are compared with: the pictures that the word was learned from or, better, "
                    "others of the same thing. They may differ in size.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="From Load CLIP Vision: the vision tower of CLIP, or DINOv2. For a text score that of CLIP "
                    "ViT-bigG.",
                ),
                supported(
                    io.String.Input,
                    "text",
                    default="",
                    multiline=True,
                    tooltip="The prompt of the pictures, for the text score. The learned word is taken out of it. "
                    "Needs clip.",
                ),
                supported(
                    io.String.Input,
                    "placeholder",
                    default="S*",
                    tooltip="How the prompt calls the learned word.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="For the text score: the CLIP of an SDXL checkpoint. Its clip_g belongs to CLIP ViT-bigG.",
                ),
                io.Mask.Input("masks", optional=True, tooltip=f"Of pictures. {mask}"),
                io.Mask.Input("training_masks", optional=True, tooltip=f"Of training_pictures. {mask}"),
            ],
            outputs=[
                io.String.Output(
                    display_name="report",
                    tooltip="All scores with intervals, and those of each picture, best first; also on the node.",
                ),
                io.Float.Output(
                    display_name="likeness", tooltip="Mean cosine of the pictures with the training pictures."
                ),
                io.Float.Output(
                    display_name="text_score", tooltip="Mean cosine of the pictures with the text. Needs text and clip."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        pictures: list[Tensor],
        training_pictures: list[Tensor],
        clip_vision: list[Any],
        text: list[str],
        placeholder: list[str],
        clip: list[Any] | None = None,
        masks: list[Tensor] | None = None,
        training_masks: list[Tensor] | None = None,
    ) -> io.NodeOutput:
        asked, notes = _rest_of_prompt(_only(text, "text"), _only(placeholder, "placeholder").strip())
        tower = _only(clip, "clip") if clip and asked else None
        scorer = HostScorer(_only(clip_vision, "clip_vision"), tower)
        shown = _without_background(pictures, masks, "pictures")
        references = _without_background(training_pictures, training_masks, "training_pictures")

        vectors, patches = scorer.look(shown)
        own, own_patches = scorer.look(references)
        vector = scorer.embed_texts([asked]) if tower is not None else None
        scores = ImageScores(
            pairwise_cosines(vectors, own),
            patch_likeness(patches, own_patches),
            mean_among_themselves(pairwise_cosines(own, own)),
            mean_among_themselves(patch_likeness(own_patches, own_patches)),
            None if vector is None else pairwise_cosines(vectors, vector)[:, 0],
            None if vector is None else cosine_of_mean(vectors, vector[0]),
        )
        likeness = mean_of_pairs(scores.likeness)
        shows = None if scores.cosines is None else (asked, mean_of_prompts([[scores.cosines]]))
        warnings = [_TRAINED_ON]
        if (masks is None) != (training_masks is None):
            warnings.append(_ONE_SIDED)
        elif masks is None:
            warnings.append(_BACKGROUNDS)
        if shows is None:
            notes = [_no_text(asked)]
        report = score_report(scores, likeness, mean_of_pairs(scores.patches), shows, notes, warnings)
        text_score = blocked(f"Score Images has no text score. {_no_text(asked)}") if shows is None else shows[1].value
        return io.NodeOutput(report, likeness.value, text_score, ui={"text": [report]})


def _only(values: Sequence[_Value], name: str) -> _Value:
    """The one value of an input, which may come as a list of equal ones. ValueError for several different values."""
    if any(value is not values[0] and value != values[0] for value in values):
        raise ValueError(
            f"{name} is a list of {len(values)} values that differ, and all pictures are scored with one; use a node "
            "for each."
        )
    return values[0]


def _rest_of_prompt(text: str, placeholder: str) -> tuple[str, list[str]]:
    """The text without the learned word, and a sentence where it was taken out. ValueError for a text that names files,
    and for one that holds nothing else."""
    if not text.strip():
        return "", []
    named = other_names(text, [placeholder])
    if named:
        raise ValueError(f"text holds {', '.join(named)}; take it out: the score is about the rest of the prompt.")
    if not placeholder or len(split_at_placeholder(text, placeholder)) == 1:
        return " ".join(text.split()), []
    rest = text_without_word(text, placeholder)
    if not rest:
        raise ValueError(f"text holds {placeholder} alone; write the whole prompt, or leave it empty.")
    return rest, [f"{placeholder} was taken out of the text: the score is about the rest of the prompt."]


def _no_text(asked: str) -> str:
    missing = "connect clip, the CLIP of an SDXL checkpoint" if asked else "write the prompt of the pictures into text"
    return f"For the text score {missing}."


def _without_background(batches: Sequence[Tensor], masks: Sequence[Tensor] | None, name: str) -> list[Tensor]:
    """IMAGE batches [B, H, W, C] of any sizes as pictures [3, H, W] over white, grey where their mask is black.

    Raises ValueError where nothing was given, and for masks whose number or values do not fit.
    """
    pictures = [over_white(picture.float().cpu().movedim(-1, 0)) for batch in batches for picture in batch]
    if not pictures:
        raise ValueError(f"{name} holds no picture; connect an IMAGE.")
    if masks is None:
        return pictures
    parts = [mask.float().cpu() for batch in masks for mask in batch.reshape(-1, *batch.shape[-2:])]
    if len(parts) not in (1, len(pictures)):
        raise ValueError(f"There are {len(parts)} masks for {len(pictures)} {name}; give one for each, or one for all.")
    parts = parts * len(pictures) if len(parts) == 1 else parts
    try:
        return [foreground(picture, mask) for picture, mask in zip(pictures, parts, strict=True)]
    except ValueError as error:
        black = any(float(mask.amax()) < 0.5 for mask in parts if mask.numel())
        cure = " That of Load Image is white on what is transparent; put Invert Mask behind it." if black else ""
        raise ValueError(f"The masks of {name} cannot be used: {error}{cure}") from error
