"""The captions of `textual-inversion train`: from a file with lines, or from files beside the pictures."""

from __future__ import annotations

from pathlib import Path

from ..data.caption_files import captions_beside, read_text, split_lines
from ..data.caption_plan import CaptionPlan, plan_captions
from ..data.picture_files import PictureFiles
from ..training.config import TrainConfig


def captions_for(pictures: PictureFiles, caption_file: str | None, config: TrainConfig) -> CaptionPlan:
    """Which captions the pictures have; see `plan_captions`."""
    lines = [] if caption_file is None else split_lines(read_text(Path(caption_file)))
    beside, warnings = captions_beside(pictures.files)
    plan = plan_captions(
        lines,
        pictures.names,
        beside,
        what=config.what,
        caption_lines=config.caption_lines,
        templates=config.templates,
        class_noun=config.class_noun,
    )
    plan.warnings.extend(warnings)
    return plan
