"""diffusers calls the vectors of one word `<cat>`, `<cat>_1`, `<cat>_2`; some files hold each under its own name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from .contents import quoted

if TYPE_CHECKING:
    from .table import FoundWord

_NUMBERED = re.compile(r"(.+)_([1-9]\d{0,3})", re.DOTALL)
_MOST_NAMED = 4


def gathered(words: Sequence[FoundWord]) -> tuple[list[FoundWord], list[str]]:
    """`words` with each of several numbered vectors as one, under the name without a number.

    And a sentence for each, as for those whose names look so but that cannot be one word, which stay as they are.
    """
    names = {word.name for word in words}
    parts: dict[str, dict[int, FoundWord]] = {}
    for word in words:
        if word.name and (numbered := _NUMBERED.fullmatch(word.name)) and numbered[1] in names:
            parts.setdefault(numbered[1], {})[int(numbered[2])] = word
    used: set[str | None] = set()
    found, notes = [], []
    for word in words:
        if word.name in used:
            continue
        if word.name not in parts:
            found.append(word)
            continue
        others = parts[word.name]
        together = [word, *(others[number] for number in sorted(others))]
        called = quoted((str(part.name) for part in together), _MOST_NAMED)
        if why := _why_apart(word, others):
            notes.append(f"{called} look like the vectors of one word, but {why}; each is read as a word of its own.")
            found.append(word)
            continue
        notes.append(f"{called} are read as one word of {len(together)} vectors, as diffusers names them.")
        used |= {part.name for part in others.values()}
        columns = zip(*(part.tensors.values() for part in together), strict=True)
        rows = [torch.cat([tensor.reshape(1, -1) for tensor in column]) for column in columns]
        found.append(replace(word, tensors=dict(zip(word.tensors, rows, strict=True))))
    return [word for word in found if word.name not in used], notes


def _why_apart(word: FoundWord, others: dict[int, FoundWord]) -> str | None:
    """Why these are not the vectors of one word; None if they are."""
    missing = next(number for number in range(1, len(others) + 2) if number not in others)
    if missing <= len(others):
        return f"{quoted([f'{word.name}_{missing}'])} is missing"
    if any(_widths(other) != _widths(word) for other in others.values()):
        return "they differ in their text encoders or widths"
    if any(tensor.numel() != tensor.shape[-1] for w in (word, *others.values()) for tensor in w.tensors.values()):
        return "not each is a single vector"
    return None


def _widths(word: FoundWord) -> list[tuple[str, int]]:
    """Of each tensor the key, unless that is the word's name, and the width."""
    return [("" if key == word.name else key, tensor.shape[-1]) for key, tensor in word.tensors.items()]
