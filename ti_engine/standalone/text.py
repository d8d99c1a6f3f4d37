"""Captions with learned vectors in them, through transformers' text encoders, which are never changed.

A pipeline's own code turns texts into its conditioning: it asks a tokenizer for ids and gives them to a text encoder.
Both are replaced by twins here. The vectors of all words are numbered through; the tokenizer writes number r as the id
-1 - r, and the token table of the encoder reads it. Nothing in between minds: CLIP looks for its end token by the
greatest id or by its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..training.backend import EncoderInfo
from ..word.placeholder import split_at_placeholders
from ..word.token_text import token_text
from ..word.vocabulary import usual_scale

_LEAST_SHARE = 0.9  # of a text encoder's token table that its tokenizer uses


@dataclass(frozen=True)
class Conditioning:
    """B encoded captions. tensors: name -> [U, ...], one row for each distinct caption; index: [B], which is whose."""

    tensors: Mapping[str, Tensor]
    index: Tensor

    def rows(self) -> dict[str, Tensor]:
        """Name -> [B, ...]"""
        # Not tensor[index]: on several threads its backward adds up the rows of a caption in any order.
        return {name: tensor.index_select(0, self.index) for name, tensor in self.tensors.items()}


class WordTokenizer:
    """A tokenizer as pipelines call it, which also knows learned words. All else is the tokenizer's own.

    tokenizer: any callable text -> {"input_ids": [..., end]} with `get_vocab`. length: tokens of a text, the special
    ones included. cuts: a longer text is cut, as pipelines do, a word too (see `rows_read`); else it is a ValueError.
    """

    def __init__(self, tokenizer: Any, length: int, cuts: bool = False) -> None:
        self._tokenizer = tokenizer
        *self._prefix, self._end = tokenizer("")["input_ids"]  # T5 has no token for the start
        pad = getattr(tokenizer, "pad_token_id", None)
        self._pad = self._end if pad is None else pad  # SD1 pads with the end token
        self._cuts = cuts
        self.model_max_length = length
        self.words: Mapping[str, range] = {}
        """Placeholder -> the numbers of its vectors."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: str | Sequence[str], **_: Any) -> SimpleNamespace:
        """`input_ids` and `attention_mask` [N, length] of N texts, padded."""
        rows = [self._row(t) for t in ([text] if isinstance(text, str) else text)]
        ids = [row + [self._pad] * (self.model_max_length - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (self.model_max_length - len(row)) for row in rows]
        return SimpleNamespace(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask))

    def rows_read(self, texts: Sequence[str], placeholder: str, count: int) -> list[set[int]]:
        """Of each text, the numbers from 0 of the `count` vectors at the placeholder that are not cut away.

        Raises ValueError for a text that is too long where none is cut.
        """
        self.words = {placeholder: range(count)}
        try:
            return [{-1 - token for token in self._row(text) if token < 0} for text in texts]
        finally:
            self.words = {}

    def vectors_read(self, text: str, counts: Mapping[str, int]) -> dict[str, int]:
        """Of each word that stands in `text`, how many of its vectors are not cut away. counts: placeholder -> all.

        Raises ValueError for a text that is too long where none is cut.
        """
        words, begin = {}, 0
        for word, count in counts.items():
            words[word], begin = range(begin, begin + count), begin + count
        self.words = words
        try:
            read = {-1 - token for token in self._row(text) if token < 0}
        finally:
            self.words = {}
        present = {part for part, is_word in split_at_placeholders(text, counts) if is_word}
        return {word: len(read.intersection(words[word])) for word in counts if word in present}

    @property
    def capacity(self) -> int:
        """Tokens that a text may have, without the special ones."""
        return self.model_max_length - len(self._prefix) - 1

    def ids(self, text: str) -> list[int]:
        """Of a text without the word, and without special tokens."""
        return list(self._tokenizer(text)["input_ids"])[len(self._prefix) : -1]

    def _row(self, text: str) -> list[int]:
        tokens: list[int] = []
        for part, is_word in split_at_placeholders(text, self.words):
            if is_word:
                tokens += [-1 - number for number in self.words[part]]
            else:
                tokens += self._ids_after_word(part) if tokens else self.ids(part)
        if len(tokens) > self.capacity and not self._cuts:
            sizes = "".join(f" with {len(numbers)} for each {word}" for word, numbers in self.words.items())
            raise ValueError(
                f"The text {text!r} has {len(tokens)} tokens{sizes}; the model takes {self.capacity}. Shorten it or "
                "use fewer vectors."
            )
        return [*self._prefix, *tokens[: self.capacity], self._end]

    def _ids_after_word(self, part: str) -> list[int]:
        """Of a text behind the word: T5 would begin one of its own with a space."""
        if part[:1].strip():
            word, both = self.ids("a"), self.ids("a" + part)
            if both[: len(word)] == word:
                return both[len(word) :]
        return self.ids(part)


class _ExtendedTable(nn.Module):
    """A token table with the vectors of words behind the negative ids."""

    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.table: Any = table
        self.rows: tuple[Tensor, ...] = ()  # a tuple, so that none becomes a parameter of this module

    def forward(self, ids: Tensor) -> Tensor:
        vectors = self.table(ids.clamp(min=0))
        if not self.rows:
            return vectors
        # Not rows[...]: on several threads its backward adds up the uses of a row in any order.
        own = F.embedding((-1 - ids).clamp(min=0), torch.cat(self.rows).to(vectors.device, vectors.dtype))
        return torch.where(ids[..., None] < 0, own, vectors)


def _check_vocabulary(words: Mapping[int, str], rows: int) -> None:
    """ValueError unless a tokenizer's words are those of a table of `rows` vectors; T5's has some to spare.

    transformers makes an empty tokenizer, without a word, where its files are missing.
    """
    if max(words, default=0) >= rows or len(words) < _LEAST_SHARE * rows:
        raise ValueError(
            f"A tokenizer knows {len(words):,} words and its text encoder {rows:,}; they do not belong together, or "
            "files of the tokenizer are missing."
        )


class TextEncoder:
    """A text encoder and its tokenizer, as `network` and `tokenizer`, that know words while they are lent them.

    network: one that is ours to change. Others as in WordTokenizer.
    """

    def __init__(self, network: nn.Module, tokenizer: Any, length: int, cuts: bool = False) -> None:
        self.network: Any = network
        self.tokenizer = WordTokenizer(tokenizer, length, cuts)
        self._table = _ExtendedTable(self.network.get_input_embeddings())
        self.network.set_input_embeddings(self._table)
        self._words = {index: word for word, index in tokenizer.get_vocab().items()}
        _check_vocabulary(self._words, len(self._vocabulary))
        self._unknown = getattr(tokenizer, "unk_token_id", None)

    @property
    def _vocabulary(self) -> Tensor:
        """[tokens, width]"""
        return self._table.table.weight

    def info(self) -> EncoderInfo:
        table = self._vocabulary.float()
        rms, norm = usual_scale(table.norm(dim=1), table.shape[1])
        return EncoderInfo(table.shape[1], self.tokenizer.capacity, rms, norm)

    def word_vectors(self, words: str) -> Tensor:
        """The vocabulary's own float32 vectors [tokens, width] of `words`; ValueError where it has none."""
        table = self._vocabulary
        ids = torch.tensor(self._known_ids(words), device=table.device)
        return table[ids].detach().to("cpu", torch.float32, copy=True)

    def word_tokens(self, words: str) -> list[str]:
        """The texts of the tokens of `words`, and the same errors."""
        return [token_text(self._words.get(index, str(index))) for index in self._known_ids(words)]

    def _known_ids(self, words: str) -> list[int]:
        unknown = [w for w in words.split() if self._unknown in self.tokenizer.ids(w)]
        if unknown:
            raise ValueError(f"The model does not know the word {unknown[0]!r}; choose a more common one.")
        ids = self.tokenizer.ids(words)
        if not ids:
            raise ValueError(f"{words!r} contains no word that the model knows; choose another one.")
        return ids

    def nearest_words(self, vector: Tensor, count: int) -> list[tuple[str, float]]:
        """The `count` tokens with the greatest cosine to `vector` [width], greatest first."""
        table = self._vocabulary.float()
        cosine = torch.cosine_similarity(table, vector.to(table)[None], dim=1)
        best = cosine.topk(min(count, len(cosine)))
        return [
            (token_text(self._words.get(int(i), str(int(i)))), float(c))
            for c, i in zip(best.values, best.indices, strict=True)
        ]

    @contextmanager
    def lent(self, words: Mapping[str, Tensor]) -> Iterator[None]:
        """Within it each placeholder of `words` means its vectors [num_vectors, width]; gradients flow to them."""
        width = self._vocabulary.shape[1]
        numbers: dict[str, range] = {}
        for placeholder, rows in words.items():
            if rows.shape[1] != width:
                raise ValueError(f"The vectors of {placeholder} have width {rows.shape[1]}, the encoder {width}.")
            begin = sum(map(len, numbers.values()))
            numbers[placeholder] = range(begin, begin + len(rows))
        self.tokenizer.words, self._table.rows = numbers, tuple(words.values())
        try:
            yield
        finally:
            self.tokenizer.words, self._table.rows = {}, ()
