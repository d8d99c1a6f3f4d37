"""Where the vectors start."""

from __future__ import annotations

import torch
from torch import Tensor

from ..word.embedding import TokenEmbedding
from ..word.families import and_list
from ..word.spread import spread, spread_vectors, without_punctuation
from ..word.token_text import without_foreign_punctuation
from .backend import FrozenModels
from .config import TrainConfig


def initial_vectors(
    backend: FrozenModels, config: TrainConfig, start: TokenEmbedding | None = None
) -> dict[str, Tensor]:
    """Encoder key -> float32 [num_vectors, width]: from `start`, from `config.initial_words`, or random.

    Words are spread evenly over the vectors in their order: two tokens over four vectors give a, a, b, b; punctuation
    is left out. Random vectors have the scale of the vocabulary. Raises ValueError for what does not fit the model, and
    for `start` beside initial words.
    """
    for key, info in backend.encoders.items():
        if config.num_vectors > info.max_vectors:
            raise ValueError(
                f"num_vectors is {config.num_vectors}, but a prompt of {key} holds {info.max_vectors}; use fewer."
            )
    if start is not None:
        check_one_start(config)
        return _from_embedding(backend, config, start)
    if config.initial_words.strip():
        words = without_foreign_punctuation(config.initial_words)
        rows = backend.word_vectors(words)
        start_tokens(backend, config)  # raises for punctuation alone
        return spread_vectors(rows, backend.word_tokens(words), dict.fromkeys(rows, config.num_vectors))
    if len(trained_encoders(backend, config)) < len(backend.encoders):
        raise ValueError(
            "train_encoders needs initial_words: they are what the other text encoders see in the word's place."
        )
    generator = torch.Generator().manual_seed(config.seed)
    return {
        key: torch.randn(config.num_vectors, info.width, generator=generator) * info.rms
        for key, info in backend.encoders.items()
    }


def check_one_start(config: TrainConfig) -> None:
    """ValueError if there are initial words, for a run that starts from an embedding."""
    if config.initial_words.strip():
        raise ValueError(
            f"The vectors start either from an embedding (init_from) or from initial_words, which are "
            f"{config.initial_words!r}; leave one of the two out."
        )


def start_tokens(backend: FrozenModels, config: TrainConfig) -> dict[str, list[str]]:
    """Encoder key -> the texts of the tokens in `config.initial_words` that a vector can start from; {} without words.

    Raises ValueError for words that the vocabulary does not hold, and where there is punctuation alone.
    """
    if not config.initial_words.strip():
        return {}
    tokens = without_punctuation(backend.word_tokens(without_foreign_punctuation(config.initial_words)))
    if not all(tokens.values()):
        raise ValueError(
            f"initial_words is {config.initial_words!r} and holds no word; write one that the model knows, or leave it "
            "empty to start at random."
        )
    return tokens


def start_sentence(backend: FrozenModels, config: TrainConfig, start: TokenEmbedding | None = None) -> str:
    """Which token each vector started from, or what else: for reports."""
    if start is not None:
        return f"Started from the vectors of {start.placeholder}."
    tokens = start_tokens(backend, config)
    if not tokens:
        return "Started from random vectors."
    told = {
        key: ", ".join(f"{number} {texts[i]}" for number, i in enumerate(spread(len(texts), config.num_vectors), 1))
        for key, texts in tokens.items()
    }
    same = len(set(told.values())) == 1
    by_encoder = [next(iter(told.values()))] if same else [f"{places} ({key})" for key, places in told.items()]
    return f"Started from these tokens, vector by vector: {and_list(by_encoder)}."


def trained_encoders(backend: FrozenModels, config: TrainConfig) -> list[str]:
    """The keys of the text encoders whose vectors are learned. Raises ValueError for one that the model has not."""
    unknown = [key for key in config.train_encoders if key not in backend.encoders]
    if unknown:
        raise ValueError(
            f"train_encoders names {', '.join(unknown)}; this model has {', '.join(backend.encoders)}. Choose of "
            "these, or leave it empty for all."
        )
    return [key for key in backend.encoders if not config.train_encoders or key in config.train_encoders]


def _from_embedding(backend: FrozenModels, config: TrainConfig, start: TokenEmbedding) -> dict[str, Tensor]:
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
