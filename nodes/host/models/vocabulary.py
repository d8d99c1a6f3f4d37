"""The words that the frozen text encoder knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ....ti_engine import EncoderInfo
from ....ti_engine.word.token_text import token_text
from ....ti_engine.word.vocabulary import usual_scale
from .encoders import TextEncoder, text_encoders

_MOST_VECTORS = 256  # where the encoder itself has no limit (T5)
_UNKNOWN = "<unk>"  # where a tokenizer does not say what its token for unknown words is
_ROWS = 1024  # of the vocabulary at a time: as many as fit into a cache, and no second copy of it is made
_ROWS_OF_8_BITS = 8192  # the host casts the whole table for every call, where a layer of 8 bits knows no scales


class Vocabulary:
    """Token vectors by word and words by vector, read through the encoder's own embedding layer."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._tokenizer = encoder.tokenizer
        self._layer: Any = encoder.network.transformer.get_input_embeddings()

    @torch.no_grad()
    def info(self) -> EncoderInfo:
        """Width, room and scale of the vocabulary."""
        norms, width = [], 0
        for rows in self._chunks():
            norms.append(rows.norm(dim=1))
            width = rows.shape[1]
        rms, norm = usual_scale(torch.cat(norms), width)
        room = min(self._tokenizer.max_length - 2, _MOST_VECTORS)  # start and end token
        return EncoderInfo(width, room, rms, norm)

    def unknown(self, words: str) -> list[str]:
        """Those of `words` that the vocabulary does not hold."""
        return [word for word in words.split() if not self._known_ids(word)]

    def token_ids(self, words: str) -> list[int]:
        """The tokens of `words`. ValueError with the word that the vocabulary does not hold."""
        if unknown := self.unknown(words):
            raise ValueError(
                f"initial_words: the text encoder does not know {', '.join(map(repr, unknown))}; "
                "choose other words, or leave initial_words empty to start at random."
            )
        return self._ids(words)

    def tokens(self, words: str) -> list[str]:
        """The texts of the tokens of `words`, in the order of `vectors`."""
        return [self._text(index) for index in self.token_ids(words)]

    @torch.no_grad()
    def vectors(self, words: str) -> Tensor:
        """The vectors [tokens, width] of the tokens of `words`, in float32 on the CPU."""
        return self._rows(torch.tensor(self.token_ids(words)))

    @torch.no_grad()
    def nearest(self, vector: Tensor, count: int) -> list[tuple[str, float]]:
        """The `count` tokens that point most in the direction of `vector` [width], with the cosine."""
        cosines = torch.cat([F.cosine_similarity(rows, vector.float().cpu()[None]) for rows in self._chunks()])
        best = cosines.topk(min(count, len(cosines)))
        return [(self._text(int(i)), float(c)) for c, i in zip(best.values, best.indices, strict=True)]

    def _text(self, index: int) -> str:
        return token_text(str(self._tokenizer.inv_vocab.get(index, f"token {index}")))

    def _known_ids(self, word: str) -> list[int]:
        ids = self._ids(word)
        unknown = getattr(self._tokenizer.tokenizer, "unk_token", None) or _UNKNOWN
        vocabulary = self._tokenizer.inv_vocab
        strange = {i for i in ids if vocabulary.get(i) in (unknown, _UNKNOWN)} | {self._tokenizer.end_token}
        return [] if strange & set(ids) else ids

    def _ids(self, text: str) -> list[int]:
        end = -1 if self._tokenizer.tokenizer_adds_end_token else None
        return self._tokenizer.tokenizer(text)["input_ids"][self._tokenizer.tokens_start : end]

    def _chunks(self) -> Iterator[Tensor]:
        table = self._layer.weight
        at_once = _ROWS_OF_8_BITS if table.dtype.itemsize == 1 else _ROWS
        return (self._rows(ids) for ids in torch.arange(table.shape[0]).split(at_once))

    def _rows(self, ids: Tensor) -> Tensor:
        # Through the layer and not from its weight: newer hosts scale inside of it.
        ids = ids.to(self._layer.weight.device)
        with _not_faulted_in(self._layer):
            return self._layer(ids, out_dtype=torch.float32).detach().cpu().clone()


@contextmanager
def _not_faulted_in(layer: Any) -> Iterator[None]:
    """A host that loads dynamically copies the whole table for every call of such a layer; without its mark, none."""
    mark = vars(layer).pop("_v", None)
    try:
        yield
    finally:
        if mark is not None:
            layer._v = mark


class ClipVocabulary:
    """The words of all text encoders of a CLIP; what `ti_engine.inspection` compares with.

    encoders: encoder key -> width, room and scale of its vocabulary.
    """

    def __init__(self, clip: Any) -> None:
        self._vocabularies = {key: Vocabulary(encoder) for key, encoder in text_encoders(clip).items()}
        self.encoders: Mapping[str, EncoderInfo] = {key: v.info() for key, v in self._vocabularies.items()}

    def nearest_words(self, key: str, vector: Tensor, count: int) -> list[tuple[str, float]]:
        """The `count` tokens of an encoder that point most in the direction of `vector` [width], with the cosine."""
        return self._vocabularies[key].nearest(vector, count)

    def word_vectors(self, words: str) -> dict[str, Tensor]:
        """Encoder key -> the vectors [tokens, width] of `words`. ValueError for words that an encoder does not know."""
        self._check_known(words)
        return {key: vocabulary.vectors(words) for key, vocabulary in self._vocabularies.items()}

    def word_tokens(self, words: str) -> dict[str, list[str]]:
        """Encoder key -> the texts of the tokens of `words`, in the order of `word_vectors`; the same errors."""
        self._check_known(words)
        return {key: vocabulary.tokens(words) for key, vocabulary in self._vocabularies.items()}

    def _check_known(self, words: str) -> None:
        for key, vocabulary in self._vocabularies.items():
            if unknown := vocabulary.unknown(words):
                raise ValueError(f"{key} does not know {', '.join(map(repr, unknown))}; choose words that it knows.")
