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
    found, networks = {}, clip.cond_stage_model
    for name, tokenizer in vars(clip.tokenizer).items():
        # The host gives both the same name, but where T5 is alone it calls the tokenizer "clip_t5xxl".
        network = getattr(networks, name, None) or getattr(networks, name.removeprefix("clip_"), None)
        if isinstance(tokenizer, SDTokenizer) and isinstance(network, SDClipModel):
            key = tokenizer.embedding_key
            found[key] = TextEncoder(key, _width(tokenizer, network), tokenizer, network)
    return found


def is_language_model(network: SDClipModel) -> bool:
    """Whether it is one of the host's Llama-like networks, which older hosts cannot weigh words in."""
    return any("text_encoders.llama" in c.__module__ for c in type(network.transformer).__mro__)


def _width(tokenizer: SDTokenizer, network: SDClipModel) -> int:
    # Of the network itself: the host's tokenizer for Ernie Image tells another one's width.
    weight = getattr(network.transformer.get_input_embeddings(), "weight", None)
    return int(weight.shape[1]) if weight is not None and weight.ndim == 2 else tokenizer.embedding_size
