"""What works but is probably not meant: said with the result, whoever shows it."""

from __future__ import annotations

from .backend import Backend
from .config import TrainConfig
from .train import TrainRecord


def training_warnings(backend: Backend, config: TrainConfig, record: TrainRecord, num_pictures: int) -> list[str]:
    """A sentence for everything about a run that a person would want to know of; empty if there is nothing."""
    warnings = []
    if record.parts > config.gradient_accumulation_steps:
        warnings.append(
            f"The memory did not hold a batch of {config.batch_size}, so it was computed in {record.parts} parts. The "
            "result is the same and takes longer."
        )
    if record.ran_out_of_memory is not None:
        warnings.append(
            f"Memory ran out at step {record.ran_out_of_memory}; that step was computed again in a smaller way, as all "
            "after it. No step was lost."
        )
    if num_pictures == 1:
        warnings.append("There was only one picture, so its background and pose became part of the word; use 3 to 5.")
    if _is_word(backend, config.placeholder):
        warnings.append(
            f"{config.placeholder} is a word that the model knows; in prompts it now means the learned thing only. "
            "Something like S* avoids mix-ups."
        )
    tokens = _num_tokens(backend, config.initial_words) if config.initial_words.strip() else 0
    if tokens > config.num_vectors:
        warnings.append(
            f"initial_words has {tokens} tokens and the word has {config.num_vectors}; it started from the first only. "
            f"Set num_vectors to {tokens}, or choose a word of one token."
        )
    return warnings


def _is_word(backend: Backend, text: str) -> bool:
    """Whether `text` is one token that the text encoder has learned a meaning for."""
    try:
        return text.isalpha() and _num_tokens(backend, text) == 1
    except ValueError:
        return False


def _num_tokens(backend: Backend, words: str) -> int:
    return max(len(rows) for rows in backend.word_vectors(words).values())
