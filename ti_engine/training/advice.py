"""Warnings about settings before a run, and about its result after it."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..word.embedding import TokenEmbedding
from ..word.inspection import FAR_TOO_LONG
from ..word.spread import unused_tokens
from .backend import FrozenModels
from .config import TrainConfig
from .record import TrainRecord
from .start_vectors import initial_vectors, start_tokens, trained_encoders


def setting_warnings(
    backend: FrozenModels, config: TrainConfig, num_pictures: int, start: TokenEmbedding | None = None
) -> list[str]:
    """A sentence for everything that a person would want to know before a run; empty if there is nothing.

    start: as `train` takes it. Raises ValueError as that would for settings that do not fit the model, which is better
    told before pictures are encoded and models loaded.
    """
    trained_encoders(backend, config)
    initial_vectors(backend, config, start)
    warnings = []
    if num_pictures == 1:
        warnings.append("There is only one picture, so its background and pose become part of the word; use 3 to 5.")
    warnings += placeholder_warnings(config.placeholder, lambda word: _num_tokens(backend, word))
    if start is None:
        warnings += _tokens_without_vector(backend, config)
    return warnings


def _tokens_without_vector(backend: FrozenModels, config: TrainConfig) -> list[str]:
    tokens = start_tokens(backend, config)
    unused = unused_tokens(tokens, dict.fromkeys(tokens, config.num_vectors))
    if not unused:
        return []
    most = max(map(len, tokens.values()))
    fits = most <= min(info.max_vectors for info in backend.encoders.values())
    cure = f"Set num_vectors to {most}, or choose" if fits else "Choose"
    return [
        f"initial_words has more tokens than the word has vectors ({config.num_vectors}): no vector starts from "
        f"{unused}. {cure} fewer words."
    ]


def placeholder_warnings(placeholder: str, num_tokens: Callable[[str], int]) -> list[str]:
    """A sentence for a placeholder that is one token, which the text encoder has learned a meaning for.

    num_tokens: of a word; ValueError for one that the vocabulary does not hold.
    """
    try:
        if not placeholder.isalpha() or num_tokens(placeholder) != 1:
            return []
    except ValueError:
        return []
    return [
        f"{placeholder} is a word that the model knows; in prompts it will mean the learned thing only. Something like "
        "S* avoids mix-ups."
    ]


def result_warnings(backend: FrozenModels, config: TrainConfig, record: TrainRecord) -> list[str]:
    """The same for a run that is over."""
    warnings = []
    if record.parts > config.gradient_accumulation_steps:
        warnings.append(
            f"The memory did not hold a batch of {config.batch_size}, so it was computed in {record.parts} parts. The "
            "result is the same and takes longer."
        )
    if record.ran_out_of_memory is not None:
        warnings.append(
            f"Memory ran out at step {record.ran_out_of_memory}; that step and all after it were computed with less "
            "memory. No step was lost."
        )
    if record.nondeterministic:
        warnings.append(
            f"torch has no deterministic way on {backend.device} to compute {', '.join(record.nondeterministic)}, so "
            "the same seed may give slightly different vectors next time."
        )
    before = record.evaluations.get(0, math.inf)
    if record.result_loss is not None and record.result_loss >= before:
        warnings.append(
            f"The loss on the fixed evaluation set is not lower than before training ({record.result_loss:.4f} after, "
            f"{before:.4f} before): nothing was learned. Lower learning_rate, or choose other initial_words."
        )
    for key, numbers in record.unlearned().items():
        if len(numbers) == len(record.reached[key]):
            which = f"The vectors of {key} never got a gradient"
        else:
            which = f"Vectors {', '.join(str(n + 1) for n in numbers)} of {key} never got a gradient"
        warnings.append(
            f"{which}, so they are what they started from: the model does not read the word there. Shorten the "
            "captions, or leave this text encoder out with train_encoders."
        )
    for key, rows in record.embedding().vectors.items():
        times = float(rows.norm(dim=1).max()) / backend.encoders[key].norm
        if times > FAR_TOO_LONG:
            warnings.append(
                f"A vector of {key} became {times:.0f} times as long as a word and will dominate every prompt. Lower "
                "learning_rate, or take fewer steps."
            )
    return warnings


def _num_tokens(backend: FrozenModels, words: str) -> int:
    return max(map(len, backend.word_tokens(words).values()))
