"""ComfyUI's own `embedding:name` in a prompt: what it finds under the name, which it tells nobody."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ....ti_engine.word.families import and_list
from ..models.encoders import TextEncoder, text_encoders
from .folders import CORE_EXTENSIONS, embedding_files, without_ending

# As the host splits a text: behind a space or a bracket, up to the next, without commas at the ends and a weight.
_NAMES = re.compile(r"(?<![^\s()])embedding:([^\s()<\[]+)")
_AROUND_NAME = re.compile(r"^,+|,+$|:(?:nan|inf|[-+.\de]*)$")


def core_words(clip: Any, text: str, placeholders: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """Each name in `text` -> encoder key -> the vectors that the host applies; empty where it ignores the name.

    placeholders: of words that are not the host's: embedding:S* is S*.
    """
    for placeholder in placeholders:
        text = text.replace(f"embedding:{placeholder}", "")
    names = dict.fromkeys(_AROUND_NAME.sub("", name) for name in _NAMES.findall(text))
    encoders = text_encoders(clip)
    found = {name: {key: _found(encoder, name) for key, encoder in encoders.items()} for name in names if name}
    return {name: {key: rows for key, rows in by.items() if rows is not None} for name, by in found.items()}


def core_word_lines(clip: Any, words: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """A line for each of `core_words`: the file it is in, or that it is ignored and why."""
    files = [file for file in embedding_files() if file.lower().endswith(CORE_EXTENSIONS)] if words else []
    is_known = any(encoder.tokenizer.embedding_directory is not None for encoder in text_encoders(clip).values())
    return [_line(name, bool(vectors), _named(name, files), is_known) for name, vectors in words.items()]


def _line(name: str, is_applied: bool, files: list[str], is_known: bool) -> str:
    if not is_known:
        return f"Warning: ComfyUI knows no embedding:{name} in this text encoder and ignores it; write <{name}>."
    if is_applied and len({without_ending(file) for file in files}) > 1:
        return f"Warning: embedding:{name} is any of {and_list(files)}, by chance; write it with its folder."
    if is_applied:
        return f"embedding:{name}: ComfyUI's own, from {files[0] if files else 'a linked folder'}."
    if files:
        return f"Warning: ComfyUI cannot use {and_list(files)} here and ignores embedding:{name}; <{name}> says why."
    return f"Warning: embedding:{name} is in none of the embeddings folders, so ComfyUI ignores it."


def _named(name: str, files: Iterable[str]) -> list[str]:
    """Those of `files` that the host may mean by `name`: in any folder, the ending that it tries first in front."""
    found = [
        file for file in files if f"/{file}".endswith(f"/{name}") or f"/{without_ending(file)}".endswith(f"/{name}")
    ]
    return sorted(found, key=lambda file: [file.lower().endswith(ending) for ending in CORE_EXTENSIONS], reverse=True)


def _found(encoder: TextEncoder, name: str) -> Tensor | None:
    """What the host's own look-up answers, if the encoder can take it."""
    if encoder.tokenizer.embedding_directory is None:
        return None
    rows: Any = encoder.tokenizer._try_get_embedding(name)[0]
    return rows if isinstance(rows, Tensor) and rows.shape[-1:] == (encoder.width,) else None
