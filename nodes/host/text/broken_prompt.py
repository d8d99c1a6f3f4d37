"""Why a text encoder made NaN or infinity of a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ....ti_engine.word.inspection import is_beyond_encoders
from ..models.encoders import is_language_model, text_encoders
from .prompt import Tokens

_LARGEST_WEIGHT = 1000  # those that do something end at 2


def why_broken(clip: Any, words: Mapping[str, Mapping[str, Tensor]], tokens: Tokens) -> str:
    """One sentence: the word, the weight or the text encoder that is to blame, and what to do.

    words: what the text calls a word -> encoder key -> its vectors.
    """
    for name, vectors in words.items():
        if any(map(is_beyond_encoders, vectors.values())):
            return (
                f"The vectors of {name} hold NaN or numbers far too large for a text encoder; train it again "
                "with a lower learning_rate, or use another file."
            )
    weights = [weight for chunks in tokens.values() for chunk in chunks for _, weight, *_ in chunk]
    if not all(abs(weight) <= _LARGEST_WEIGHT for weight in weights):
        return "A weight in the text is NaN or far too large; weigh words as in (word:1.2)."
    if any(is_language_model(encoder.network) for encoder in text_encoders(clip).values()):
        return (
            "The text encoder made NaN of this prompt. Language models of older ComfyUI versions cannot weigh words: "
            "write the prompt without (word:1.2), or update ComfyUI."
        )
    return (
        "The text encoder made NaN of this prompt, which neither a word nor a weight in it explains. Its file may be "
        "broken, or its precision too low: start ComfyUI with --fp32-text-enc."
    )
