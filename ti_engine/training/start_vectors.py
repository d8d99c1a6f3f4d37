"""Where the vectors start."""

from __future__ import annotations

import torch
from torch import Tensor

from ..word.embedding import TokenEmbedding
from .backend import Backend
from .config import TrainConfig


def initial_vectors(backend: Backend, config: TrainConfig, start: TokenEmbedding | None = None) -> dict[str, Tensor]:
    """Encoder key -> float32 [num_vectors, width]: from `start`, from `config.initial_words`, or random.

    Words are spread evenly over the vectors in their order: two tokens over four vectors give a, a, b, b. Random
    vectors have the scale of the vocabulary. Raises ValueError for what does not fit the model.
    """
    for key, info in backend.encoders.items():
        if config.num_vectors > info.max_vectors:
            raise ValueError(
                f"num_vectors is {config.num_vectors}, but a prompt of {key} holds {info.max_vectors}; use fewer."
            )
    if start is not None:
        return _from_embedding(backend, config, start)
    if config.initial_words.strip():
        words = backend.word_vectors(config.initial_words)
        return {key: _spread(rows, config.num_vectors) for key, rows in words.items()}
    if len(trained_encoders(backend, config)) < len(backend.encoders):
        raise ValueError(
            "train_encoders needs initial_words: they are what the other text encoders see in the word's place."
        )
    generator = torch.Generator().manual_seed(config.seed)
    return {
        key: torch.randn(config.num_vectors, info.width, generator=generator) * info.rms
        for key, info in backend.encoders.items()
    }


def trained_encoders(backend: Backend, config: TrainConfig) -> list[str]:
    """The keys of the text encoders whose vectors are learned. Raises ValueError for one that the model has not."""
    unknown = [key for key in config.train_encoders if key not in backend.encoders]
    if unknown:
        raise ValueError(
            f"train_encoders names {', '.join(unknown)}; this model has {', '.join(backend.encoders)}. Choose of "
            "these, or leave it empty for all."
        )
    return [key for key in backend.encoders if not config.train_encoders or key in config.train_encoders]


def _spread(rows: Tensor, count: int) -> Tensor:
    index = (torch.arange(count) * len(rows)) // count if count > len(rows) else torch.arange(count)
    return rows[index].clone()


def _from_embedding(backend: Backend, config: TrainConfig, start: TokenEmbedding) -> dict[str, Tensor]:
    for key, info in backend.encoders.items():
        rows = start.vectors.get(key)
        if rows is None or rows.shape[1] != info.width:
            had = ", ".join(f"{k} of width {v.shape[1]}" for k, v in start.vectors.items())
            raise ValueError(f"The embedding to start from holds {had}; this model needs {key} of width {info.width}.")
    if start.num_vectors != config.num_vectors:
        raise ValueError(
            f"The embedding to start from has {start.num_vectors} vectors, num_vectors is {config.num_vectors}; "
            "make them equal."
        )
    return {key: start.vectors[key].float().clone() for key in backend.encoders}
