"""Captions with learned vectors in them, through a transformers text encoder that is never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..backend import EncoderInfo
from ..placeholder import split_at_placeholder


@dataclass(frozen=True)
class Conditioning:
    """B encoded captions. hidden: [U, T, width], one row for each distinct caption; index: [B], which row is whose."""

    hidden: Tensor
    index: Tensor

    def rows(self) -> Tensor:
        """[B, T, width]"""
        return self.hidden[self.index]


class EncodedTexts:
    """What `TextEncoder.encode` returns: `cond` is a leaf, the encoder's graph hangs on to it separately."""

    def __init__(self, encoded: Tensor, index: Tensor, differentiable: bool) -> None:
        self._encoded = encoded
        self.cond = Conditioning(encoded.detach().requires_grad_(differentiable), index)

    def backward(self) -> None:
        """Add the gradients that `cond` collected to those of the vectors."""
        if self.cond.hidden.grad is not None and self._encoded.requires_grad:
            self._encoded.backward(self.cond.hidden.grad)


class TextEncoder:
    """A CLIP text model with its tokenizer: any callable text -> {"input_ids": [start, ..., end]} with `get_vocab`."""

    def __init__(self, module: nn.Module, tokenizer: Any) -> None:
        self._module: Any = module
        self._tokenizer = tokenizer
        self._start, self._end = _ids(tokenizer, "")[0], _ids(tokenizer, "")[-1]
        pad = getattr(tokenizer, "pad_token_id", None)
        self._pad = self._end if pad is None else pad  # SD1 pads with the end token
        self.length = min(int(self._module.config.max_position_embeddings), int(tokenizer.model_max_length))
        self._words = {index: word for word, index in tokenizer.get_vocab().items()}
        self._unknown = getattr(tokenizer, "unk_token_id", tokenizer.get_vocab().get("<unknown>"))

    @property
    def _table(self) -> Tensor:
        """The vocabulary [tokens, width]."""
        return self._module.get_input_embeddings().weight

    def info(self) -> EncoderInfo:
        table = self._table.float()
        rms, norm = table.square().mean().sqrt(), table.norm(dim=1).mean()
        return EncoderInfo(self._table.shape[1], self.length - 2, float(rms), float(norm))

    def word_vectors(self, words: str) -> Tensor:
        """The vocabulary's own float32 vectors [tokens, width] of `words`; ValueError where it has none."""
        unknown = [w for w in words.split() if self._unknown in _ids(self._tokenizer, w)[1:-1]]
        if unknown:
            raise ValueError(f"The model does not know the initial word {unknown[0]!r}; choose a more common one.")
        ids = _ids(self._tokenizer, words)[1:-1]
        if not ids:
            raise ValueError(f"The initial words {words!r} contain no word that the model knows; choose another one.")
        return self._table[torch.tensor(ids, device=self._table.device)].detach().to("cpu", torch.float32, copy=True)

    def nearest_words(self, vector: Tensor, count: int) -> list[tuple[str, float]]:
        """The `count` tokens with the greatest cosine to `vector` [width], greatest first."""
        table = self._table.float()
        cosine = torch.cosine_similarity(table, vector.to(table)[None], dim=1)
        best = cosine.topk(min(count, len(cosine)))
        return [
            (self._words.get(int(i), str(int(i))).removesuffix("</w>"), float(c))
            for c, i in zip(best.values, best.indices, strict=True)
        ]

    def encode(
        self, texts: Sequence[str], placeholder: str, vectors: Tensor | None, differentiable: bool
    ) -> EncodedTexts:
        """`texts` with `vectors` [num_vectors, width] in place of every placeholder, each distinct text encoded once.

        ValueError for a text that does not fit.
        """
        distinct = list(dict.fromkeys(texts))
        count = 0 if vectors is None else len(vectors)
        rows = [self._tokenize(text, placeholder, count) for text in distinct]
        device = self._table.device
        ids = torch.tensor([[token for token, _ in row] for row in rows], device=device)
        places = torch.tensor([[place for _, place in row] for row in rows], device=device)
        with torch.set_grad_enabled(differentiable):
            hidden = self._forward(ids, places, vectors)
        index = torch.tensor([distinct.index(text) for text in texts], device=device)
        return EncodedTexts(hidden, index, differentiable)

    def _tokenize(self, text: str, placeholder: str, count: int) -> list[tuple[int, int]]:
        """(token id, -1) for the vocabulary's tokens, (any id, row) for the word's; with start, end and padding.

        Without vectors (count 0) the placeholder is a text like any other.
        """
        parts = split_at_placeholder(text, placeholder) if count else [text]
        word = [(self._end, row) for row in range(count)]
        tokens = [(self._start, -1)]
        for number, part in enumerate(parts):
            tokens += word if number else []
            tokens += [(token, -1) for token in _ids(self._tokenizer, part)[1:-1]]
        if len(tokens) + 1 > self.length:
            raise ValueError(
                f"The text {text!r} has {len(tokens) - 1} tokens with {count} for each {placeholder}; "
                f"the model takes {self.length - 2}. Shorten it or use fewer vectors."
            )
        tokens.append((self._end, -1))
        return tokens + [(self._pad, -1)] * (self.length - len(tokens))

    def _forward(self, ids: Tensor, places: Tensor, vectors: Tensor | None) -> Tensor:
        if vectors is None:
            return self._module(ids).last_hidden_state
        word = vectors

        def splice(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            own = word.to(output.device, output.dtype)[places.clamp(min=0)]
            return torch.where(places[..., None] >= 0, own, output)

        hook = self._module.get_input_embeddings().register_forward_hook(splice)
        try:
            return self._module(ids).last_hidden_state
        finally:
            hook.remove()


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text)["input_ids"])
