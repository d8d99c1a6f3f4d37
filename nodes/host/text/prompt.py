"""Prompts with learned words: the host's own tokenizer does all the work, with our vectors as its embeddings.

The host looks up `embedding:NAME` in a text through one method of its tokenizer. A copy of the tokenizer gets that
method answered for private names, so weights, punctuation and prompt templates are the host's to the last bit, and so
is the cutting into chunks unless it would cut a word in two. This works too where the host itself has no such syntax.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from comfy.sd1_clip import SDTokenizer
from torch import Tensor

from ....ti_engine.word.placeholder import split_at_placeholder
from ..models.encoders import text_encoders
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


@dataclass(frozen=True, eq=False)
class LookUp:
    """The host's own look-up of an `embedding:name` in a text, for one encoder; rows: what it found."""

    encoder: str
    name: str
    rows: Tensor | None


def tokenize(
    clip: Any,
    text: str,
    words: Mapping[str, Mapping[str, Tensor]],
    weights: bool = True,
    look_ups: list[LookUp] | None = None,
    whole: bool = True,
) -> Tokens:
    """`text` as the host's tokens with vectors in place of the words.

    words: placeholder -> encoder key -> [num_vectors, width], for every encoder of the CLIP. Without words the tokens
    are those of `clip.tokenize(text)`. weights: whether (word:1.2) weighs words; in training all parentheses are
    literal. look_ups: gets every look-up of the host's own that happens on the way. whole: whether words are kept whole
    (see chunks.py) where the host would cut them between two chunks.
    """
    look_ups = [] if look_ups is None else look_ups
    markers = {placeholder: _MARKER.format(number) for number, placeholder in enumerate(words)}
    lender = copy.copy(clip)
    lender.tokenizer = copy.copy(clip.tokenizer)
    encoders = {id(encoder.tokenizer): encoder for encoder in text_encoders(clip).values()}
    for name, tokenizer in vars(clip.tokenizer).items():
        if isinstance(tokenizer, SDTokenizer):
            encoder = encoders.get(id(tokenizer))
            if encoder is None:
                lent = _without_word(tokenizer, list(markers.values()), weights)
            else:
                rows = {markers[p]: _Rows(vectors[encoder.key]) for p, vectors in words.items()}
                note = partial(_note, look_ups, encoder.key)
                lent = _answering(tokenizer, rows, weights, whole, note)
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

    In two passes, so that no placeholder is looked for inside a marker. A space that stands there already is not
    doubled: tokenizers of language models would count both.
    """
    unused = (chr(code) for code in range(*_PRIVATE_USE) if chr(code) not in text)
    signs = dict(zip(markers, unused, strict=False))
    for placeholder in sorted(markers, key=len, reverse=True):
        text = signs[placeholder].join(split_at_placeholder(text, placeholder))
    for placeholder, marker in markers.items():
        text = re.sub(f"(?<![ \\n]){signs[placeholder]}", f" {signs[placeholder]}", text)
        text = text.replace(signs[placeholder], f"embedding:{marker} ")
    return text


def _without_word(tokenizer: SDTokenizer, markers: Sequence[str], weights: bool) -> SDTokenizer:
    """A copy of a tokenizer without a network of its own, which reads a plain word where a learned one stands."""
    copied = copy.copy(tokenizer)
    original = tokenizer.tokenize_with_weights

    def with_known_word(text: str, *args: Any, **kwargs: Any) -> Any:
        for marker in markers:
            text = text.replace(f"embedding:{marker}", _SILENT)
        return original(text, *args, **(kwargs if weights else {**kwargs, "disable_weights": True}))

    copied.tokenize_with_weights = with_known_word  # pyright: ignore[reportAttributeAccessIssue]
    return copied


def _note(look_ups: list[LookUp], encoder: str, name: str, rows: Tensor | None) -> None:
    look_ups.append(LookUp(encoder, name, rows))


def _answering(
    tokenizer: SDTokenizer,
    rows: Mapping[str, _Rows],
    weights: bool,
    whole: bool,
    note: Callable[[str, Tensor | None], None],
) -> SDTokenizer:
    """A copy of `tokenizer` that finds `rows` under their names, and every other name as before, which it notes."""
    copied = copy.copy(tokenizer)
    knows_embeddings = copied.embedding_directory is not None
    if copied.embedding_directory is None:
        copied.embedding_directory = []  # the host looks nothing up where there is no folder
    original: Callable[[str], tuple] = copied._try_get_embedding
    width = _answer_length(tokenizer)

    def look_up(text: str) -> tuple:
        if not text.strip():
            raise ValueError("There is no name behind embedding: in the text; write the name of a file there.")
        name, *rest = text.split()
        if name not in rows:
            answer = original(text)
            note(re.split(r"[<\[]", name)[0].strip(","), answer[0])
            # A tokenizer that looks nothing up reads these letters.
            return answer if knows_embeddings else (*answer[:-1], f"{copied.embedding_identifier}{text}")
        leftover = " ".join(rest)
        return (rows[name], leftover) if width == 2 else (rows[name], name, leftover)

    copied._try_get_embedding = look_up  # pyright: ignore[reportAttributeAccessIssue]
    if rows:
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
