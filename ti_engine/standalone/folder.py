"""Diffusers folders: a pipeline's list of parts, their settings and their weights, on this machine only."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..data.picture_files import is_hidden
from ..word.families import and_list
from .families import BY_CLASS, PipelineFamily

_NAMES = ("diffusion_pytorch_model.safetensors", "model.safetensors")
# diffusers and transformers look for these before they look for a pickle.
_FIRST = tuple(name + ending for name in _NAMES for ending in ("", ".index.json"))
Index = Mapping[str, Any]
"""A pipeline's list of parts: name -> [library, class], or [None, None] for one that it does without."""


def open_folder(folder: Path, dtype: torch.dtype) -> tuple[Any, Path | None]:
    """The pipeline, and the file with its network's weights. ValueError for what cannot be used."""
    index, family = read_index(folder, folder.name, f"{folder.name} is no diffusers pipeline: it has no")
    settings = {**precision(dtype), **absent_parts(folder, index, family), **family.left_out}
    for part in index.keys() - family.left_out.keys():
        weights_of(folder, part)  # a ValueError where diffusers would open a pickle
    try:
        pipeline = pipeline_class(index).from_pretrained(str(folder), local_files_only=True, **settings)
    except Exception as error:  # diffusers raises many kinds for a folder with parts missing or broken
        raise ValueError(f"{folder.name} cannot be opened as a pipeline: {reason(error)}") from error
    files = weights_of(folder, family.network)
    return pipeline, files[0] if files else None


def read_index(folder: Path, name: str, sentence: str) -> tuple[Index, PipelineFamily]:
    """The list of parts and the family. ValueError for a folder that cannot be used, called `name`.

    sentence: how to begin where there is no list; its name and a reason follow.
    """
    file = folder / "model_index.json"
    if file.exists() and not file.is_file():
        raise ValueError(f"{sentence} readable {file.name} (it is no file).")
    try:
        index = _content(file)
    except FileNotFoundError as error:
        raise ValueError(f"{sentence} {file.name}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{sentence} readable {file.name} ({reason(error)}).") from error
    if not isinstance(index, dict):
        raise ValueError(f"{sentence} {file.name} with a list of parts.")
    kind = index.get("_class_name")
    if not isinstance(kind, str) or kind not in BY_CLASS:
        raise ValueError(f"{name} is a {kind}; {and_list(list(BY_CLASS))} can be used here.")
    family = BY_CLASS[kind]
    origins = (None, "diffusers", "transformers", family.package)
    foreign = [part for part, origin in index.items() if isinstance(origin, list) and _origin(origin) not in origins]
    if foreign:
        raise ValueError(f"{name} brings code of its own for {', '.join(foreign)}, which is never run.")
    missing = [part for part in family.needed if not _is_there(folder, index, part)]
    if missing:
        raise ValueError(f"{name} has no {and_list(missing)}; give the whole folder of a {kind}.")
    for file in sorted(folder.glob("*/*config.json")):
        if file.parent.name in index and not is_hidden(file.name):
            _check_settings(file, name)
    return index, family


def _check_settings(file: Path, name: str) -> None:
    """ValueError where they are no settings: diffusers takes a text in their place for a model at its hub."""
    try:
        whole = isinstance(_content(file), dict)
    except (OSError, ValueError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(f"{name} cannot be used: {file.parent.name}/{file.name} holds no settings; fetch it again.")


def _content(file: Path) -> Any:
    return json.loads(file.read_text("utf-8"))


def absent_parts(folder: Path, index: Index, family: PipelineFamily) -> dict[str, None]:
    """What the pipeline does without: as its list says, or an optional text encoder without weights (SD3's T5)."""
    absent = {part: None for part, origin in index.items() if origin == [None, None]}
    for place in family.encoders.values():
        if place.optional and not weights_of(folder, place.network):
            absent |= {place.network: None, place.tokenizer: None}
    return absent


def weights_of(folder: Path, part: str) -> list[Path]:
    """The files with the part's weights. ValueError where they are in a pickle, which is never opened."""
    pickles = sorted(f for f in (folder / part).glob("*.bin") if not is_hidden(f.name))
    if pickles and not any((folder / part / name).exists() for name in _FIRST):
        raise ValueError(
            f"{folder.name}/{part} holds its weights in a pickle ({pickles[0].name}), which can run code when it is "
            "opened and is not read; get the folder with .safetensors files, or convert it to them."
        )
    return sorted(f for f in (folder / part).glob("*.safetensors") if not is_hidden(f.name))


def part_class(index: Index, part: str) -> Any:
    """The class of a part, by the pipeline's list."""
    library, name = index[part]
    return getattr(importlib.import_module(library), name)


def pipeline_class(index: Index) -> Any:
    import diffusers

    return getattr(diffusers, index["_class_name"])


def precision(dtype: torch.dtype) -> dict[str, torch.dtype]:
    """The argument by the name that this version of diffusers has for it."""
    import diffusers

    version = tuple(int(part) for part in diffusers.__version__.split(".")[:2])
    return {"dtype" if version >= (0, 42) else "torch_dtype": dtype}


def reason(error: Exception) -> str:
    """What an error of a library says, for a sentence: its first line, or the two of a heading with its first item."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    summary = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return summary[:300]


def _is_there(folder: Path, index: Index, part: str) -> bool:
    entry = index.get(part)
    return isinstance(entry, list) and all(isinstance(text, str) for text in entry) and (folder / part).is_dir()


def _origin(entry: list[Any]) -> Any:
    return entry[0] if len(entry) == 2 else "?"
