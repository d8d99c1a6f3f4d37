"""Prompts with learned words: the host's own tokenizer does all the work, with our vectors as its embeddings.

The host looks up `embedding:NAME` in a text through one method of its tokenizer. A copy of the tokenizer gets that
method answered for private names, so weights, punctuation and the cutting into chunks are the host's to the last bit.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from comfy.sd1_clip import SDTokenizer
from torch import Tensor

from ...ti_engine.placeholder import split_at_placeholder

Tokens = dict[str, list[list[tuple[Any, float]]]]
"""What the host calls tokens: key -> chunks of (token, weight), a token being a number or a vector [width]."""

_MARKER = "textual_inversion_word_{}"
_PRIVATE_USE = (0xE000, 0xF900)  # characters that mean nothing in Unicode


def tokenize(clip: Any, text: str, words: Mapping[str, Mapping[str, Tensor]]) -> Tokens:
    """`text` as the host's tokens with vectors in place of the words.

    words: placeholder -> encoder key -> [num_vectors, width], for every encoder of the CLIP. Without words this is
    `clip.tokenize(text)`.
    """
    if not words:
        return clip.tokenize(text)
    markers = {placeholder: _MARKER.format(number) for number, placeholder in enumerate(words)}
    lender = copy.copy(clip)
    lender.tokenizer = copy.copy(clip.tokenizer)
    for name, tokenizer in vars(clip.tokenizer).items():
        if isinstance(tokenizer, SDTokenizer):
            rows = {markers[p]: _rows_for(tokenizer, vectors) for p, vectors in words.items()}
            setattr(lender.tokenizer, name, _answering(tokenizer, rows))
    return lender.tokenize(_mark(text, markers))


def contains(text: str, placeholder: str) -> bool:
    """Whether `placeholder` stands in `text` as a word of its own."""
    return len(split_at_placeholder(text, placeholder)) > 1


def _mark(text: str, markers: Mapping[str, str]) -> str:
    """`text` with ` embedding:MARKER ` for every placeholder, the longest placeholders first.

    In two passes, so that no placeholder is looked for inside a marker. Somebody who wrote `embedding:S*` means S*.
    A space that stands there already is not doubled: tokenizers of language models would count both.
    """
    unused = (chr(code) for code in range(*_PRIVATE_USE) if chr(code) not in text)
    signs = dict(zip(markers, unused, strict=False))
    for placeholder in sorted(markers, key=len, reverse=True):
        text = signs[placeholder].join(split_at_placeholder(text, placeholder))
    for placeholder, marker in markers.items():
        sign = signs[placeholder]
        text = re.sub(f"(?<![ \\n]){sign}", f" {sign}", text.replace(f"embedding:{sign}", sign))
        text = text.replace(sign, f"embedding:{marker} ")
    return text


def positions(tokens: Tokens, vectors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Token key -> places, counted from 0 over all chunks, at which rows of `vectors` stand."""
    storages = {rows.untyped_storage().data_ptr() for rows in vectors.values()}
    return {
        key: [
            place
            for place, (token, _) in enumerate(pair for chunk in chunks for pair in chunk)
            if isinstance(token, Tensor) and token.untyped_storage().data_ptr() in storages
        ]
        for key, chunks in tokens.items()
    }


def _rows_for(tokenizer: SDTokenizer, vectors: Mapping[str, Tensor]) -> Tensor:
    """The rows of a word for a tokenizer; any where its encoder was not loaded, since nobody reads those tokens."""
    if tokenizer.embedding_key in vectors:
        return vectors[tokenizer.embedding_key]
    return torch.zeros(1, tokenizer.embedding_size)


def _answering(tokenizer: SDTokenizer, rows: Mapping[str, Tensor]) -> SDTokenizer:
    """A copy of `tokenizer` that finds `rows` under their names, and every other name as before."""
    copied = copy.copy(tokenizer)
    if copied.embedding_directory is None:
        copied.embedding_directory = []  # the host looks nothing up where there is no folder
    original: Callable[[str], tuple] = copied._try_get_embedding
    width = _answer_length(tokenizer)

    def look_up(text: str) -> tuple:
        name, *rest = text.split()
        if name not in rows:
            return original(text)
        leftover = " ".join(rest)
        return (rows[name], leftover) if width == 2 else (rows[name], name, leftover)

    copied._try_get_embedding = look_up  # pyright: ignore[reportAttributeAccessIssue]
    return copied


def _answer_length(tokenizer: SDTokenizer) -> int:
    """2 on older hosts (vectors, leftover), 3 on newer ones (vectors, name, leftover)."""
    probe = copy.copy(tokenizer)
    probe.embedding_directory = []  # nothing to search, so it answers at once
    return len(probe._try_get_embedding("x"))
