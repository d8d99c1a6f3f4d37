"""Folders with a network as transformers saves it: on this machine only, and never a pickle."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def check_folder(folder: Path, kinds: Collection[str], what: str) -> dict[str, Any]:
    """The settings (config.json) of a folder that holds a network of one of `kinds`; nothing is loaded.

    what: what the folder should hold, for errors. Raises ValueError or FileNotFoundError with one sentence for a folder
    that is not there, of another kind, without weights, or with weights in a pickle.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; give one that holds {what} as transformers saves it.")
    config = read_settings(folder / "config.json")
    if config is None:
        raise ValueError(f"{folder.name} has no config.json; give a folder that holds {what} as transformers saves it.")
    kind = config.get("model_type")
    if kind not in kinds:
        raise ValueError(f"{folder.name} holds a network of the kind {kind!r}, not {what} ({', '.join(kinds)}).")
    if not any((folder / name).is_file() for name in _WEIGHTS):
        if any((folder / name).is_file() for name in _PICKLES):
            raise ValueError(
                f"{folder.name} holds its weights in a pickle, which can run code when it is opened and is not read; "
                "get the folder with model.safetensors."
            )
        raise ValueError(f"{folder.name} has no model.safetensors; copy the weights into it.")
    if importlib.util.find_spec("transformers") is None:
        raise ValueError(f"To read {folder.name} transformers is needed: install textual-inversion[standalone].")
    return config


def read_settings(file: Path) -> dict[str, Any] | None:
    """A JSON object in a file; None without the file. ValueError for other content."""
    if not file.is_file():
        return None
    try:
        settings = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise ValueError(f"{file.parent.name}/{file.name} holds no settings; fetch it again.")
    return settings


def load_network(folder: Path, loader: Any, device: str, **options: Any) -> Any:
    """The network in a folder that `check_folder` has accepted, frozen, in float32.

    loader: its class in transformers. options: for its constructor. Raises ValueError where it cannot be loaded, and
    where weights are missing, which transformers would fill with random numbers.
    """
    try:
        network, report = loader.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True, **options
        )
    except Exception as error:  # transformers raises many kinds for a folder that is broken
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{folder.name} cannot be loaded: {lines[0][:300]}") from error
    if absent := _absent(report):
        raise ValueError(f"The weights in {folder.name} lack {absent[0]} and {len(absent) - 1} more; fetch them again.")
    return network.float().to(device).train(False).requires_grad_(False)


def _absent(report: Mapping[str, Any]) -> list[str]:
    lacking = [*report.get("missing_keys", ()), *(entry[0] for entry in report.get("mismatched_keys", ()))]
    return sorted(key for key in lacking if not key.endswith(("position_ids", "mask_token", "logit_scale")))
