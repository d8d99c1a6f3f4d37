"""What a file says about the word in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..config import TrainConfig
from ..embedding import TokenEmbedding
from ..families import FAMILIES, family_of

if TYPE_CHECKING:
    from ..train import TrainRecord

RECORD_KEY = "textual_inversion"
# Other programs take a file with one of these for a whole workflow or a picture's settings (ComfyUI's drop handler).
FORBIDDEN_KEYS = ("prompt", "parameters", "templates")
MAX_CURVE_POINTS = 500


def file_metadata(embedding: TokenEmbedding) -> dict[str, str]:
    """`embedding.metadata` with ModelSpec 1.0.1 around it (github.com/Stability-AI/ModelSpec). Given entries win.

    ComfyUI shows title, architecture, trigger phrase and, where given, author, description, tags and thumbnail.
    """
    metadata = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.implementation": "textual-inversion",
        "modelspec.title": embedding.placeholder,
        "modelspec.date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    family = family_of(embedding)
    if family is not None and (architecture := FAMILIES[family].architecture):
        metadata["modelspec.architecture"] = f"{architecture}/textual-inversion"
    metadata |= {key: text for key, text in embedding.metadata.items() if key not in FORBIDDEN_KEYS}
    return metadata | {"modelspec.trigger_phrase": embedding.placeholder}


def description_metadata(
    title: str | None = None,
    author: str | None = None,
    license: str | None = None,
    description: str | None = None,
    usage_hint: str | None = None,
    tags: str | None = None,
    negative: bool | None = None,
    thumbnail: str | None = None,
    merged_from: str | None = None,
) -> dict[str, str]:
    """What only its maker can say of a word, as metadata for its TokenEmbedding; what is None or empty is left out.

    tags: separated by commas. negative: whether it belongs into the negative prompt. thumbnail: a data URL (see
    thumbnail.py). merged_from: see `merged_names`.
    """
    given: dict[str, Any] = dict(
        title=title, author=author, license=license, description=description, usage_hint=usage_hint, tags=tags,
        thumbnail=thumbnail, merged_from=merged_from,
    )  # fmt: skip
    metadata = {f"modelspec.{name}": text for name, text in given.items() if text}
    if negative is not None:
        metadata["modelspec.is_negative_embedding"] = "true" if negative else "false"
    return metadata


def merged_names(names: Sequence[str], weights: Sequence[float] | None = None) -> str:
    """Where a merged word comes from: "cat (0.6), dog (0.4)". `names`: of the words or their files, without paths."""
    plain = [name.replace(",", " ") for name in names]
    if weights is None:
        return ", ".join(plain)
    return ", ".join(f"{name} ({weight:.6g})" for name, weight in zip(plain, weights, strict=True))


def training_record(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What `training_metadata` wrote; empty where there is none."""
    try:
        record = json.loads(metadata.get(RECORD_KEY, "{}"))
    except ValueError:
        return {}
    return record if isinstance(record, dict) and record.get("version") == 1 else {}


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
