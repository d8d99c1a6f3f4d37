"""What a person has to know of how a CLIP reads the words in a prompt: moved, cut in two, or not read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ....ti_engine import Words
from ....ti_engine.word.families import and_list
from ....ti_engine.word.placeholder import split_at_placeholders
from .prompt import Tokens, tokenize
from .reading import Place, check_encodable, places_of, places_read


def check_read(text: str, tokens: Tokens, words: Words) -> None:
    """Raises ValueError for a word of which `tokens`, made of `text`, hold nothing, and as check_encodable does."""
    check_encodable(tokens)
    parts = [part for part, is_word in split_at_placeholders(text, words) if is_word]
    for placeholder, vectors in words.items():
        if any(places_of(tokens, rows) for rows in vectors.values()):
            continue
        if placeholder in parts:
            raise ValueError(
                f"{and_list(list(vectors))} reads nothing of {placeholder}: the text before it fills all that the "
                f"model takes. Shorten that, or move {placeholder} towards the beginning."
            )
        raise ValueError(
            f"{placeholder} occurs in the text only inside of another learned word's placeholder, so its embedding "
            f"would do nothing. Write {placeholder} on its own, or disconnect it."
        )


def placing_lines(clip: Any, text: str, tokens: Tokens, words: Words) -> list[str]:
    """A sentence for every word that does not stand where the host would put it, or that is cut in two."""
    hosts = tokenize(clip, text, words, whole=False)
    lines = []
    for placeholder, vectors in words.items():
        cut = [key for key, rows in vectors.items() if _cuts(places_of(tokens, rows))]
        moved = [key for key, rows in vectors.items() if _cuts(places_of(hosts, rows)) > _cuts(places_of(tokens, rows))]
        count = max(map(len, vectors.values()))
        if moved:
            lines.append(
                f"{placeholder}: begins a new chunk of text, because the end of the one before would have cut its "
                f"{count} vectors in two."
            )
        if cut:
            lines.append(
                f"Warning: {placeholder}: {and_list(cut)} cannot hold its {count} vectors in one chunk of text, so it "
                "is cut in two and each part is read without the other. Use a word of fewer vectors."
            )
    return lines


def cut_core_lines(tokens: Tokens, core: Words) -> list[str]:
    """A warning for every word of the host's own syntax (see core_words) that it has cut in two."""
    return [
        f"Warning: ComfyUI cuts embedding:{name} in two between two chunks of text; <{name}> is kept whole."
        for name, vectors in core.items()
        if any(rows.ndim == 2 and _is_cut(tokens, rows) for rows in vectors.values())
    ]


def unread_lines(clip: Any, text: str, tokens: Tokens, words: Words) -> list[str]:
    """A warning for every word and text encoder that does not read the whole of it wherever it stands in `text`.

    The encoders have to be loaded already, as after encoding; a long text may be encoded twice more.
    """
    parts = [part for part, is_word in split_at_placeholders(text, words) if is_word]
    lines = []
    for placeholder, vectors in words.items():
        read = places_read(clip, tokens, vectors, lambda t: clip.encode_from_tokens(t, return_dict=True))
        for key, rows in vectors.items():
            expected = len(rows) * parts.count(placeholder)
            if len(read[key]) < expected:
                lines.append(
                    f"Warning: {key} reads {len(read[key]) or 'none'} of the {expected} vector(s) that stand for "
                    f"{placeholder}: the text before is too long for it. Shorten that, or move {placeholder} towards "
                    "the beginning."
                )
    return lines


def _is_cut(tokens: Tokens, rows: Tensor) -> bool:
    """Whether one of `rows` [num_vectors, width] ends a chunk and the next one begins the next."""
    pairs = [pair for chunks in tokens.values() for pair in pairwise(chunks)]
    vectors = [[[t for t, *_ in chunk if _is_like(t, rows)] for chunk in pair] for pair in pairs]
    ends = [torch.stack([before[-1], after[0]]) for before, after in vectors if before and after]
    return any(torch.equal(end, rows[i : i + 2]) for end in ends for i in range(len(rows) - 1))


def _is_like(token: Any, rows: Tensor) -> bool:
    return isinstance(token, Tensor) and (token.dtype, token.device) == (rows.dtype, rows.device)


def _cuts(places: Sequence[Place]) -> int:
    """How often a vector stands in another chunk than the one before it of the same word."""
    return sum(b.row == a.row + 1 and b.chunk != a.chunk for a, b in pairwise(places))
