"""Which vectors of a word reach the model, through each of a CLIP's text encoders.

Some do not. A tokenizer may drop what is behind the tokens that its encoder takes (128 for T5 in HiDream, 512 in
LongCat Image). And of an encoder whose pooled text is all that the model gets (CLIP's in Flux, HiDream, Hunyuan Video,
Kandinsky 5), that of the first chunk alone is used, whatever stands in the chunks behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .prompt import Tokens

Encode = Callable[[Tokens], Mapping[str, Any]]
"""Tokens -> what the model gets of them, under the host's names."""

_later_chunks: WeakKeyDictionary[nn.Module, dict[str, bool]] = WeakKeyDictionary()


class Place(NamedTuple):
    """Where a vector of a word stands: row `row` of it, at token `index` of chunk `chunk`, under the host's `key`."""

    key: str
    chunk: int
    index: int
    row: int


def places_of(tokens: Tokens, rows: Tensor) -> list[Place]:
    """Where `rows` [num_vectors, width], which `tokens` were made with, stand in them, in the order of the text."""
    storage, begin = rows.untyped_storage().data_ptr(), rows.storage_offset()
    return [
        Place(key, number, index, (token.storage_offset() - begin) // rows.stride(0))
        for key, chunks in tokens.items()
        for number, chunk in enumerate(chunks)
        for index, (token, *_) in enumerate(chunk)
        if isinstance(token, Tensor) and token.untyped_storage().data_ptr() == storage
    ]


def check_encodable(tokens: Tokens) -> None:
    """Raises ValueError for a text that the host cuts into chunks of different lengths, which its encoders refuse."""
    for key, chunks in tokens.items():
        if len({len(chunk) for chunk in chunks}) > 1:
            raise ValueError(
                f"The text has {sum(map(len, chunks))} tokens for {key}, and ComfyUI can encode no more than "
                f"{len(chunks[0])} with it; shorten the text."
            )


def places_read(clip: Any, tokens: Tokens, vectors: Mapping[str, Tensor], encode: Encode) -> dict[str, list[Place]]:
    """Encoder key -> those of `places_of` its rows in `vectors` whose token the model gets something of.

    encode: is asked once for a CLIP and each encoder of it that has the word behind its first chunk.
    """
    read = {key: places_of(tokens, rows) for key, rows in vectors.items()}
    for key, places in read.items():
        later = [place for place in places if place.chunk]
        if later and not _reads_later_chunks(clip, key, tokens, later, encode):
            read[key] = [place for place in places if not place.chunk]
    return read


def _reads_later_chunks(clip: Any, key: str, tokens: Tokens, later: list[Place], encode: Encode) -> bool:
    """Whether the model gets anything of the tokens at `later`: whether it gets something else if they change."""
    known = _later_chunks.setdefault(clip.cond_stage_model, {})
    if key not in known:
        changed = {name: [list(chunk) for chunk in chunks] for name, chunks in tokens.items()}
        for place in later:
            chunk = changed[place.key][place.chunk]
            token, weight = chunk[place.index]
            # Not the same number for all: a layer norm would take that away.
            chunk[place.index] = (token + torch.linspace(-1, 1, len(token)).to(token), weight)
        before, after = encode(tokens), encode(changed)
        known[key] = any(
            isinstance(value, Tensor) and not torch.equal(value, after[name]) for name, value in before.items()
        )
    return known[key]
