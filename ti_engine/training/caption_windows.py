"""Whether the text encoders read the word in the captions at all, asked before the first step.

A text encoder reads a text up to where its window ends. Vectors behind it get no gradient from that caption, and if no
caption shows them they stay what they started from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..word.families import and_list
from .backend import Backend
from .config import TrainConfig
from .start_vectors import trained_encoders

_MOST_NAMED = 10  # captions
_LONGEST = 90  # characters of a caption in a sentence


def caption_warnings(backend: Backend, captions: Sequence[str], config: TrainConfig) -> list[str]:
    """A sentence for every caption in which a trained text encoder does not read the whole word.

    Raises ValueError if a trained encoder reads none of the word's vectors in any caption, and as `rows_read` does.
    """
    trained = trained_encoders(backend, config)
    read = backend.rows_read(captions, config.placeholder, config.num_vectors)
    learned = {key: set().union(*read[key]) for key in trained}
    blind = [key for key in trained if not learned[key]]
    if blind:
        raise ValueError(_never_read(blind, [key for key in trained if learned[key]], captions, config.placeholder))
    warnings = []
    for number, caption in enumerate(captions):
        counts = {key: len(read[key][number]) for key in trained if len(read[key][number]) < config.num_vectors}
        if counts:
            warnings.append(_partly_read(caption, counts, config.placeholder, config.num_vectors))
    if len(warnings) > _MOST_NAMED:
        left = len(warnings) - _MOST_NAMED
        warnings[_MOST_NAMED:] = [f"{left} more of the {len(captions)} captions are too long in the same way."]
    for key in trained:
        missing = sorted(set(range(config.num_vectors)) - learned[key])
        if missing:
            numbers = and_list([str(row + 1) for row in missing])
            warnings.append(
                f"In no caption does {key} read vector {numbers} of {config.placeholder}; it keeps its "
                "start values. Shorten the captions, or lower num_vectors."
            )
    return warnings


def _never_read(blind: Sequence[str], others: Sequence[str], captions: Sequence[str], placeholder: str) -> str:
    which = (
        f"the caption {_shortened(captions[0])!r}" if len(captions) == 1 else f"each of the {len(captions)} captions"
    )
    cure = f"Shorten the captions, or move {placeholder} towards their beginning"
    if others:
        cure += f"; or set train_encoders to {and_list(others)} and give initial_words"
    return (
        f"{and_list(blind)} would learn nothing: the text before {placeholder} fills all that it can read, in {which}. "
        f"{cure}."
    )


def _partly_read(caption: str, counts: Mapping[str, int], placeholder: str, num_vectors: int) -> str:
    of = f"the {num_vectors} vectors of {placeholder}" if num_vectors > 1 else placeholder
    reads = [f"{key} reads {f'only {count}' if count else 'none'} of {of}" for key, count in counts.items()]
    return (
        f"In the caption {_shortened(caption)!r} {and_list(reads)}: what stands before it is too long. Shorten that, "
        f"or move {placeholder} towards the beginning."
    )


def _shortened(text: str) -> str:
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"
