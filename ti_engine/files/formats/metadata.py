"""What a file says about the word in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import torch

from ...version import VERSION
from ...word.embedding import TokenEmbedding
from ...word.families import FAMILIES, family_of

if TYPE_CHECKING:
    from ...training.config import TrainConfig
    from ...training.record import TrainRecord

RECORD_KEY = "textual_inversion"
IMPLEMENTATION_KEY, IMPLEMENTATION = "modelspec.implementation", "textual-inversion"
# Other programs take a file with one of these for a whole workflow or a picture's settings (ComfyUI's drop handler).
FORBIDDEN_KEYS = ("prompt", "parameters", "templates")
MAX_CURVE_POINTS = 500
MAX_METADATA = 900_000  # bytes as JSON; with the tensors' own part it stays below the MiB that readers look at
# How a LoRA was trained, with the names of its folders and pictures (kohya's): no part of a word that was in one.
_OF_LORA = ("ss_", "sshs_")
_WHOLE_LORA = ("modelspec.architecture", "modelspec.title", "modelspec.thumbnail")


def file_metadata(embedding: TokenEmbedding) -> dict[str, str]:
    """`embedding.metadata` with ModelSpec 1.0.1 around it (github.com/Stability-AI/ModelSpec). Given entries win.

    ComfyUI shows title, architecture, trigger phrase and, where given, author, description, tags and thumbnail. What a
    LoRA says of itself is left out where the word was in one.
    """
    metadata = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.1",
        IMPLEMENTATION_KEY: IMPLEMENTATION,
        "modelspec.title": embedding.placeholder,
        "modelspec.date": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    family = family_of(embedding)
    if family is not None and (architecture := FAMILIES[family].architecture):
        metadata["modelspec.architecture"] = f"{architecture}/textual-inversion"
    given = {key: text for key, text in embedding.metadata.items() if _is_written(key)}
    if given.get("modelspec.architecture", "").endswith("/lora"):
        given = {key: text for key, text in given.items() if key not in _WHOLE_LORA}
    metadata |= given
    return metadata | {"modelspec.trigger_phrase": embedding.placeholder}


def shortened(embedding: TokenEmbedding) -> tuple[TokenEmbedding, list[str]]:
    """`embedding` without the longest of the texts that came with it, until the others fit into a file; and their keys.

    ModelSpec's own entries and the record of the training stay.
    """
    kept, left = dict(embedding.metadata), []
    while _size(json.dumps(file_metadata(replace(embedding, metadata=kept)), ensure_ascii=False)) > MAX_METADATA:
        others = [key for key in kept if _is_written(key) and not key.startswith("modelspec.") and key != RECORD_KEY]
        if not others:
            break
        left.append(max(others, key=lambda key: _size(kept[key])))
        del kept[left[-1]]
    return replace(embedding, metadata=kept), left


def _is_written(key: str) -> bool:
    return key not in FORBIDDEN_KEYS and not key.startswith(_OF_LORA)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


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
    thumbnail.py). merged_from: see `made_of` in merging.py.
    """
    given: dict[str, Any] = dict(
        title=title, author=author, license=license, description=description, usage_hint=usage_hint, tags=tags,
        thumbnail=thumbnail, merged_from=merged_from,
    )  # fmt: skip
    metadata = {f"modelspec.{name}": text for name, text in given.items() if text}
    if negative is not None:
        metadata["modelspec.is_negative_embedding"] = "true" if negative else "false"
    return metadata


def training_record(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What `training_metadata` wrote; empty where there is none."""
    try:
        record = json.loads(metadata.get(RECORD_KEY, "{}"))
    except (ValueError, RecursionError):  # a stranger's
        return {}
    return record if isinstance(record, dict) and record.get("version") == 1 else {}


def initial_words(metadata: Mapping[str, str]) -> str:
    """The words that a training started from, as its record says; empty where there were none or nobody knows."""
    return _setting(metadata, "initial_words")


def class_noun(metadata: Mapping[str, str]) -> str:
    """The noun that a word was learned with behind it, as its record says; empty where there was none, nobody knows, or
    the text is no plain words."""
    noun = " ".join(_setting(metadata, "class_noun").split())
    return noun if noun.isprintable() and not any(sign in noun for sign in "{}[]<>") else ""


def _setting(metadata: Mapping[str, str], name: str) -> str:
    """A setting that is a text, out of the training's record; empty where there is none."""
    settings = training_record(metadata).get("settings")
    text = settings.get(name) if isinstance(settings, dict) else None
    return text if isinstance(text, str) else ""


def moved_metadata(metadata: Mapping[str, str], merged_from: str) -> dict[str, str]:
    """Metadata of a word that was made from one with `metadata`: what it is made of, and how prompts use it."""
    return description_metadata(merged_from=merged_from, usage_hint=metadata.get("modelspec.usage_hint"))


def training_metadata(
    config: TrainConfig | Mapping[str, Any],
    record: TrainRecord,
    model_name: str,
    model_hash: str | None,
    num_pictures: int,
    model_fingerprint: str | None = None,
    started_from: Mapping[str, str] | None = None,
    run: str | None = None,
    returned: range | None = None,
) -> dict[str, str]:
    """How a word was learned, as metadata for its TokenEmbedding: one JSON record, without paths or names of people.

    config: the settings, also as `to_dict` gave them. model_hash: SHA-256 of the weights file in hex;
    model_fingerprint: another mark of the weights, where there is no file. started_from: "file" and "sha256" of the
    embedding whose vectors it started from. run: id of the run on disk. returned: the steps whose mean the vectors are,
    if not those that the run returned. The loss curve is thinned to MAX_CURVE_POINTS.
    """
    returned = record.returned if returned is None else returned
    settings = dict(config) if isinstance(config, Mapping) else config.to_dict()
    stride = max(1, math.ceil(len(record.losses) / MAX_CURVE_POINTS))
    content = {
        "version": 1,
        "settings": settings,
        "versions": {"textual_inversion": VERSION, "torch": torch.__version__},
        "model": {"name": model_name, "sha256": model_hash, "fingerprint": model_fingerprint},
        "started_from": None if started_from is None else dict(started_from),
        "run": run,
        "num_pictures": num_pictures,
        "steps": len(record.losses),
        "returned_steps": [returned[0], returned[-1]],
        **({} if returned.step == 1 else {"returned_every": returned.step}),
        "never_trained": record.unlearned(),
        "stopped": record.stopped,
        "losses": {str(i + 1): round(record.losses[i], 6) for i in range(0, len(record.losses), stride)},
        "evaluations": {str(step): round(loss, 6) for step, loss in record.evaluations.items()},
    }
    noun = settings.get("class_noun")
    hint = description_metadata(usage_hint=f"Learned with the noun {noun!r} behind it; write it so.") if noun else {}
    return {RECORD_KEY: json.dumps(content, ensure_ascii=False), **hint}
