"""Prompts with learned words: the host's own tokenizer does all the work, with our vectors as its embeddings.

The host looks up `embedding:NAME` in a text through one method of its tokenizer. A copy of the tokenizer gets that
method answered for private names, so weights, punctuation and prompt templates are the host's to the last bit, and so
is the cutting into chunks unless it would cut a word in two. This works too where the host itself has no such syntax.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from comfy.sd1_clip import SDTokenizer
from torch import Tensor

from ....ti_engine.word.placeholder import split_at_placeholder
from ..models.encoders import is_language_model, text_encoders
from .chunks import keep_words_whole

Tokens = dict[str, list[list[tuple[Any, float]]]]
"""What the host calls tokens: key -> chunks of (token, weight), a token being a number or a vector [width]."""

_MARKER = "textual_inversion_word_{}"
_PRIVATE_USE = (0xE000, 0xF900)  # characters that mean nothing in Unicode
_SILENT = "thing"  # what a tokenizer reads for a word whose numbers alone reach the model (Anima's second one)


class _Rows:
    """Vectors on their way through a tokenizer, which may compare what it finds with numbers: a tensor would not do."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.shape = rows, rows.shape

    def __getitem__(self, index: int) -> _Row:
        return _Row(self.rows[index])


class _Row:
    """One of them."""

    def __init__(self, vector: Tensor) -> None:
        self.vector = vector


class _Splitter:
    """A tokenizer below the host's own that puts rows into its numbers where a marker stands.

    The host's looks embeddings up before it asks this one, all but LongCat Image's, which knows no embeddings.
    """

    def __init__(self, tokenizer: Any, rows: Mapping[str, _Rows]) -> None:
        self._tokenizer, self._rows = tokenizer, rows
        self._pattern = re.compile(f" ?embedding:({'|'.join(map(re.escape, rows))}) ?")

    def __call__(self, text: str, **kwargs: Any) -> Any:
        if not self._pattern.search(text):
            return self._tokenizer(text, **kwargs)
        ids: list[Any] = []
        for number, part in enumerate(self._pattern.split(text)):
            if number % 2:
                ids += [self._rows[part][i] for i in range(self._rows[part].shape[0])]
            elif part:
                ids += self._tokenizer(part, **kwargs)["input_ids"]
        return {"input_ids": ids}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def tokenize(
    clip: Any, text: str, words: Mapping[str, Mapping[str, Tensor]], weights: bool = True, whole: bool = True
) -> Tokens:
    """`text` as the host's tokens with vectors in place of the words.

    words: placeholder -> encoder key -> [num_vectors, width], for every encoder of the CLIP. Without words this is
    `clip.tokenize(text)`. weights: whether language models weigh words written as (word:1.2); not in training.
    whole: whether words are kept whole (see chunks.py) where the host would cut them between two chunks.
    """
    if not words:
        return clip.tokenize(text)
    markers = {placeholder: _MARKER.format(number) for number, placeholder in enumerate(words)}
    lender = copy.copy(clip)
    lender.tokenizer = copy.copy(clip.tokenizer)
    encoders = {id(encoder.tokenizer): encoder for encoder in text_encoders(clip).values()}
    for name, tokenizer in vars(clip.tokenizer).items():
        if isinstance(tokenizer, SDTokenizer):
            encoder = encoders.get(id(tokenizer))
            if encoder is None:
                lent = _without_word(tokenizer, list(markers.values()))
            else:
                rows = {markers[p]: _Rows(vectors[encoder.key]) for p, vectors in words.items()}
                lent = _answering(tokenizer, rows, weights or not is_language_model(encoder.network), whole)
            setattr(lender.tokenizer, name, lent)
    tokens = lender.tokenize(_mark(text, markers))
    return {
        key: [[(t.vector if isinstance(t, _Row) else t, *weight) for t, *weight in chunk] for chunk in chunks]
        for key, chunks in tokens.items()
    }


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
            for place, (token, *_) in enumerate(pair for chunk in chunks for pair in chunk)
            if isinstance(token, Tensor) and token.untyped_storage().data_ptr() in storages
        ]
        for key, chunks in tokens.items()
    }


def _without_word(tokenizer: SDTokenizer, markers: Sequence[str]) -> SDTokenizer:
    """A copy of a tokenizer without a network of its own, which reads a plain word where a learned one stands."""
    copied = copy.copy(tokenizer)
    original = tokenizer.tokenize_with_weights

    def plain(text: str, *args: Any, **kwargs: Any) -> Any:
        for marker in markers:
            text = text.replace(f"embedding:{marker}", _SILENT)
        return original(text, *args, **kwargs)

    copied.tokenize_with_weights = plain  # pyright: ignore[reportAttributeAccessIssue]
    return copied


def _answering(tokenizer: SDTokenizer, rows: Mapping[str, _Rows], weights: bool, whole: bool) -> SDTokenizer:
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
    copied.tokenizer = _Splitter(tokenizer.tokenizer, rows)
    if not weights:
        split = copied.tokenize_with_weights

        def unweighted(text: str, return_word_ids: bool = False, **kwargs: Any) -> Any:
            return split(text, return_word_ids, **{**kwargs, "disable_weights": True})

        copied.tokenize_with_weights = unweighted  # pyright: ignore[reportAttributeAccessIssue]
    if whole and tokenizer.pad_to_max_length:
        in_numbered_chunks = copied.tokenize_with_weights

        def in_chunks(text: str, return_word_ids: bool = False, **kwargs: Any) -> Any:
            chunks = in_numbered_chunks(text, True, **kwargs)
            chunks = keep_words_whole(chunks, tokenizer, lambda token: isinstance(token, _Row))
            return chunks if return_word_ids else [[token[:2] for token in chunk] for chunk in chunks]

        copied.tokenize_with_weights = in_chunks  # pyright: ignore[reportAttributeAccessIssue]
    return copied


def _answer_length(tokenizer: SDTokenizer) -> int:
    """2 on older hosts (vectors, leftover), 3 on newer ones (vectors, name, leftover)."""
    probe = copy.copy(tokenizer)
    probe.embedding_directory = []  # nothing to search, so it answers at once
    return len(probe._try_get_embedding("x"))
