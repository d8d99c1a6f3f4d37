"""What config.json of a run says, for people and for lists."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..files.formats.metadata import training_record
from ..training.config import TrainConfig
from ..version import VERSION
from ..word.embedding import TokenEmbedding
from .folder import RunFolder


def describe_run(
    config: TrainConfig,
    model: str,
    own_captions: Sequence[str | None],
    num_pictures: int,
    start: TokenEmbedding | None = None,
) -> dict[str, Any]:
    """Ready for JSON. own_captions: a picture's caption or None. start: the embedding that the vectors start from."""
    parent = None if start is None else training_record(start.metadata).get("run")
    return {
        "word": config.placeholder,
        "pictures": num_pictures,
        "captions": list(own_captions),
        "model": model,
        "parent": parent,
        "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "program": f"textual-inversion {VERSION}",
        "settings": config.to_dict(),
    }


def about_again(about: Mapping[str, Any], folder: RunFolder) -> Mapping[str, Any]:
    """What to say of a run that goes on: `about`, but it began when its config.json says."""
    try:
        began = folder.config().get("began")
    except (ValueError, OSError):
        return about
    return about if began is None else {**about, "began": began}
