"""What a container holds, sorted for those who look for words in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..containers.container import Container
from ..refused import Refused
from .encoders import known_width

BARE = ""  # the key of a tensor that has none
MOST_PLAIN = 75  # vectors of which nothing but their size says that they are a word: what a CLIP takes at once
_WRAPPERS = ("state_dict", "emb_params", "embedding", "embeddings", "embeds", "learned_embeds", "model", "module")
# Dicts beside the wrapped one that hold no words: what a training keeps to be gone on with.
_BESIDE = ("optimizer", "optimizer_state_dict", "scheduler", "lr_scheduler", "config", "args", "metadata", "state")


@dataclass(frozen=True, eq=False)
class Contents:
    """A dict out of a file, as it is (raw) and sorted by what lies under its keys: tensors, dicts, and text."""

    raw: dict[str, Any]
    tensors: dict[str, Tensor]
    dicts: dict[str, Contents]
    metadata: dict[str, str]

    def all_keys(self) -> Iterator[str]:
        """Its keys and those of all dicts in it, joined by dots."""
        yield from self.raw
        for name, inner in self.dicts.items():
            yield from (f"{name}.{key}" for key in inner.all_keys())

    def tensor_keys(self) -> Iterator[str]:
        """The keys of its tensors and of those in all dicts in it, joined by dots."""
        yield from self.tensors
        for name, inner in self.dicts.items():
            yield from (f"{name}.{key}" for key in inner.tensor_keys())


def sorted_contents(container: Container) -> tuple[Contents, list[str]]:
    """What `container` holds, and warnings. Raises Refused if that is no dict, no word alone and no list of words."""
    content, warnings = container.content, []
    if isinstance(content, list) and content and all(isinstance(entry, (dict, Tensor)) for entry in content):
        content, warnings = _one_of(content)
    if isinstance(content, Tensor):
        _check_bare(content)
        content = {BARE: content}
        warnings = [*warnings, "It is a bare tensor: nothing in the file says that it is a word."]
    if not isinstance(content, dict):
        kinds = {list: "a list", str: "text", int: "a number", float: "a number", bool: "a truth value"}
        raise Refused(f"holds {kinds.get(type(content), 'nothing')} and no word, so it is no embedding")
    return _sorted(_unwrapped(content), container.metadata), warnings


def _one_of(entries: list[Any]) -> tuple[Any, list[str]]:
    """What a list stands for: states of one word over its training, or several words under names of their own."""
    if len(entries) == 1:
        return entries[0], []
    if all(_signature(entry) == _signature(entries[0]) for entry in entries):
        return entries[-1], [f"It holds {len(entries)} states of one word over its training; the last is read."]
    keys = [key for entry in entries if isinstance(entry, dict) for key in entry]
    if all(isinstance(entry, dict) for entry in entries) and len(set(keys)) == len(keys):
        return {key: value for entry in entries for key, value in entry.items()}, []
    raise Refused(f"holds a list of {len(entries):,} different things, and which of them is the word, it does not say")


def _signature(part: Any) -> Any:
    """The same for two states of one word: the keys, the widths and its name, whatever the numbers are."""
    if isinstance(part, Tensor):
        return list(part.shape[-1:])
    if isinstance(part, dict):
        named = part.get("name") if isinstance(part.get("name"), str) else None
        return named, {key: _signature(value) for key, value in part.items()}
    return list if isinstance(part, list) else None


def _sorted(content: dict[Any, Any], metadata: dict[str, str]) -> Contents:
    """`content` by kind. Numbers that stand alone are text, also where they are tensors; None says nothing."""
    raw = {str(key): value for key, value in content.items()}
    tensors, dicts, texts = {}, {}, {}
    for key, value in raw.items():
        if isinstance(value, Tensor) and value.ndim == 0:  # those of a large LoRA are not read: its alphas
            value = None if value.is_meta else value.item()
        if isinstance(value, Tensor):
            tensors[key] = value
        elif isinstance(value, dict):
            dicts[key] = _sorted(value, {})
        elif isinstance(value, (str, int, float)):
            texts[key] = str(value)
        elif isinstance(value, list) and all(isinstance(part, (str, int, float)) for part in value):
            texts[key] = json.dumps(value, ensure_ascii=False)
    return Contents(raw, tensors, dicts, texts | metadata)


def _unwrapped(content: dict[Any, Any]) -> dict[Any, Any]:
    """The dict inside, where a program has put the whole one into another, as into {"state_dict": ...}."""
    inner = [key for key, value in content.items() if isinstance(value, (dict, Tensor)) and key not in _BESIDE]
    if len(inner) == 1 and inner[0] in _WRAPPERS and isinstance(content[inner[0]], dict):
        rest = {key: value for key, value in content.items() if key != inner[0]}
        return _unwrapped(content[inner[0]]) | rest
    return content


def _check_bare(tensor: Tensor) -> None:
    shape = list(tensor.shape)
    if tensor.ndim not in (1, 2) or not known_width(shape[-1]) or len(tensor.reshape(-1, shape[-1])) > MOST_PLAIN:
        raise Refused(f"is a bare tensor of shape {shape} (a picture, a latent, a mask?) and no embedding")


def quoted(keys: Iterable[str], most: int = 3) -> str:
    """Names that a stranger wrote, for a sentence: the first few, cut, each on one line."""
    keys = list(keys)
    some = [key[:60] if key.isprintable() else ascii(key[:60]) for key in keys[:most]]
    return ", ".join(some) + (", ..." if len(keys) > most else "")
