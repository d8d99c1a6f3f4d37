"""The text encoders of a CLIP: which tokenizer belongs to which network, under the host's own keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy.sd1_clip import SDClipModel, SDTokenizer


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder. key: "clip_l", "t5xxl", ... as in embedding files. width: length of a token's vector."""

    key: str
    width: int
    tokenizer: SDTokenizer
    network: SDClipModel


def encoder_keys(clip: Any) -> set[str]:
    """The keys of all encoders that the kind of `clip` has, with those whose weights were not loaded."""
    return {part.embedding_key for part in vars(clip.tokenizer).values() if isinstance(part, SDTokenizer)}


def text_encoders(clip: Any) -> dict[str, TextEncoder]:
    """Key -> encoder, in the host's order. One whose weights were not loaded (SD3 without T5) is left out."""
    found = {}
    for name, tokenizer in vars(clip.tokenizer).items():
        network = getattr(clip.cond_stage_model, name, None)  # the host gives both the same name
        if isinstance(tokenizer, SDTokenizer) and isinstance(network, SDClipModel):
            key = tokenizer.embedding_key
            found[key] = TextEncoder(key, tokenizer.embedding_size, tokenizer, network)
    return found
