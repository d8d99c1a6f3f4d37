"""Which learned words stand in a prompt, for any CLIP; and the prompt as conditioning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...ti_engine import TokenEmbedding
from .encoders import text_encoders
from .prompt import contains, positions, tokenize


def encode_prompt(clip: Any, text: str, embeddings: Sequence[TokenEmbedding]) -> tuple[Any, str]:
    """The host's CONDITIONING of `text` with every embedding's placeholder replaced, and a report of where.

    Raises ValueError for an embedding that is not used in the text or does not fit the CLIP.
    """
    if clip is None:
        raise ValueError("The loader gave no CLIP; the file may not contain one. Load it with a node of its own.")
    words = {e.placeholder: vectors_for(clip, e) for e in embeddings}
    if len(words) < len(embeddings):
        twice = next(e.placeholder for e in embeddings if sum(o.placeholder == e.placeholder for o in embeddings) > 1)
        raise ValueError(
            f"Two embeddings have the placeholder {twice}; give one another name when you train or load it."
        )
    for placeholder in words:
        if not contains(text, placeholder):
            raise ValueError(
                f"The text does not contain {placeholder}, so its embedding would do nothing. "
                f'Write {placeholder} where you want it, for example "a photo of {placeholder}", or disconnect it.'
            )
    tokens = tokenize(clip, text, words)
    for placeholder, vectors in words.items():
        if not any(positions(tokens, vectors).values()):
            raise ValueError(
                f"{placeholder} occurs in the text only inside of another learned word's placeholder, so its embedding "
                f"would do nothing. Write {placeholder} on its own, or disconnect it."
            )
    report = "\n".join(_applied(p, vectors, tokens) for p, vectors in words.items())
    return clip.encode_from_tokens_scheduled(tokens), report or "No embedding connected: as CLIP Text Encode."


def vectors_for(clip: Any, embedding: TokenEmbedding) -> dict[str, Tensor]:
    """Encoder key of `clip` -> the embedding's rows for it. ValueError if one is missing or has another width.

    A single tensor under a key that says nothing goes to the one encoder of its width.
    """
    encoders = {key: encoder.width for key, encoder in text_encoders(clip).items()}
    vectors = embedding.vectors
    if len(vectors) == len(encoders) == 1 and vectors.keys() != encoders.keys():
        vectors = dict(zip(encoders, vectors.values(), strict=True))
    fits = all(key in vectors and vectors[key].shape[1] == width for key, width in encoders.items())
    if not encoders or not fits:
        has = ", ".join(f"{key} of width {rows.shape[1]}" for key, rows in embedding.vectors.items())
        wants = ", ".join(f"{key} of width {width}" for key, width in encoders.items()) or "no embedding at all"
        raise ValueError(
            f"The embedding {embedding.placeholder} does not fit this CLIP: it holds {has}, the CLIP takes {wants}. "
            "Use it with the kind of model that it was trained on, or train it on this one."
        )
    return {key: vectors[key].detach().clone() for key in encoders}


def _applied(placeholder: str, vectors: Mapping[str, Tensor], tokens: Any) -> str:
    count = max(len(rows) for rows in vectors.values())
    norm = next(iter(vectors.values())).float().norm(dim=1).mean()
    places = next(iter(positions(tokens, vectors).values()))
    length = sum(len(chunk) for chunk in next(iter(tokens.values())))
    plural = "vector" if count == 1 else "vectors"
    where = ", ".join(_ranges(places))
    return f"{placeholder}: {count} {plural} at position {where} of {length}, mean length {norm:.3g}."


def _ranges(places: Sequence[int]) -> list[str]:
    """[5, 6, 7, 20] as ["5-7", "20"]."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
