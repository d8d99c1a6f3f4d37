"""ComfyUI's own `embedding:name` in a prompt: what it found under the name and used, which it tells nobody."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from ....ti_engine.word.families import and_list
from ....ti_engine.word.placeholder import other_names
from ..models.encoders import text_encoders
from .folders import CORE_EXTENSIONS, embedding_files, same_file, without_ending
from .prompt import LookUp, Tokens
from .reading import places_of

_BEHIND_NAME = re.compile(r":(?:nan|inf|[-+.\de]*)$")  # a weight


def core_words(clip: Any, look_ups: Sequence[LookUp], tokens: Tokens) -> dict[str, dict[str, Tensor]]:
    """Each name that the host looked up -> encoder key -> its vectors, if they stand in `tokens` and fit the encoder.

    Empty where the host ignores the name.
    """
    widths = {key: encoder.width for key, encoder in text_encoders(clip).items()}
    words: dict[str, dict[str, Tensor]] = {look_up.name: {} for look_up in look_ups}
    for look_up in look_ups:
        rows = look_up.rows
        if rows is not None and rows.shape[-1] == widths[look_up.encoder] and places_of(tokens, rows):
            words[look_up.name][look_up.encoder] = rows
    return words


def core_word_lines(clip: Any, words: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """A line for each of `core_words`: the file it is in, or that it is ignored and why."""
    files = [file for file in embedding_files() if file.lower().endswith(CORE_EXTENSIONS)] if words else []
    is_known = any(encoder.tokenizer.embedding_directory is not None for encoder in text_encoders(clip).values())
    encoders = list(text_encoders(clip))
    return [_line(name, list(vectors), encoders, _named(name, files), is_known) for name, vectors in words.items()]


def unread_name_lines(text: str, placeholders: Iterable[str], words: Mapping[str, Any]) -> list[str]:
    """A line for each `embedding:name` in `text` that the host reads as words, because it did not look it up.

    placeholders: of learned words; embedding:S* is S*. words: the names that it looked up.
    """
    names = [name for name in other_names(text, placeholders) if name.startswith("embedding:")]
    written = [name.removeprefix("embedding:").strip(",") for name in names]
    unread = [name for name in written if name not in words and _BEHIND_NAME.sub("", name) not in words]
    return [
        f"Warning: ComfyUI reads embedding:{name} as words: it knows a name behind a space only."
        for name in dict.fromkeys(unread)
    ]


def _line(name: str, used_by: list[str], encoders: list[str], files: list[str], is_known: bool) -> str:
    if not is_known:
        return f"Warning: ComfyUI knows no embedding:{name} in this text encoder and reads it as words; write <{name}>."
    if used_by and len({without_ending(file) for file in files}) > 1 and not same_file(files):
        return f"Warning: embedding:{name} is any of {and_list(files)}, by chance; write it with its folder."
    if used_by and len(used_by) < len(encoders):
        others = and_list([key for key in encoders if key not in used_by])
        return f"Warning: embedding:{name} is used for {and_list(used_by)}; {others} cannot use it and ignores it."
    if used_by:
        return f"embedding:{name}: ComfyUI's own, from {files[0] if files else 'a folder that is not listed'}."
    if files:
        return f"Warning: ComfyUI cannot use {and_list(files)} here and ignores embedding:{name}; <{name}> says why."
    return f"Warning: embedding:{name} is in none of the embeddings folders, so ComfyUI ignores it."


def _named(name: str, files: Iterable[str]) -> list[str]:
    """Those of `files` that the host may mean by `name`: in any folder, the ending that it tries first in front."""
    found = [
        file for file in files if f"/{file}".endswith(f"/{name}") or f"/{without_ending(file)}".endswith(f"/{name}")
    ]
    return sorted(found, key=lambda file: [file.lower().endswith(ending) for ending in CORE_EXTENSIONS], reverse=True)
