"""What a file says about the word in it."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ..config import TrainConfig
from ..embedding import TokenEmbedding

if TYPE_CHECKING:
    from ..train import TrainRecord

RECORD_KEY = "textual_inversion"
# Other programs take a file with one of these for a whole workflow or a picture's settings (ComfyUI's drop handler).
FORBIDDEN_KEYS = ("prompt", "parameters", "templates")
MAX_CURVE_POINTS = 500


def file_metadata(embedding: TokenEmbedding) -> dict[str, str]:
    """`embedding.metadata` with ModelSpec 1.0.1 around it (github.com/Stability-AI/ModelSpec). Given entries win."""
    metadata = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.implementation": "textual-inversion",
        "modelspec.title": embedding.placeholder,
        "modelspec.date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if {key: rows.shape[1] for key, rows in embedding.vectors.items()} == {"clip_l": 768}:
        metadata["modelspec.architecture"] = "stable-diffusion-v1/textual-inversion"
    metadata |= {key: text for key, text in embedding.metadata.items() if key not in FORBIDDEN_KEYS}
    return metadata | {"modelspec.trigger_phrase": embedding.placeholder}


def training_metadata(
    config: TrainConfig, record: TrainRecord, model_name: str, model_hash: str | None, num_pictures: int
) -> dict[str, str]:
    """How a word was learned, as metadata for its TokenEmbedding: one JSON record, without paths or names of people.

    model_hash: SHA-256 of the weights in hex. The loss curve is thinned to MAX_CURVE_POINTS.
    """
    stride = max(1, math.ceil(len(record.losses) / MAX_CURVE_POINTS))
    steps = len(record.trajectory) - 1
    content = {
        "version": 1,
        "settings": config.to_dict(),
        "model": {"name": model_name, "sha256": model_hash},
        "num_pictures": num_pictures,
        "steps": steps,
        "best_step": record.best_step,
        "stopped": record.stopped,
        "losses": {str(i + 1): round(record.losses[i], 6) for i in range(0, len(record.losses), stride)},
        "evaluations": {str(step): round(loss, 6) for step, loss in record.evaluations.items()},
    }
    return {RECORD_KEY: json.dumps(content, ensure_ascii=False)}
