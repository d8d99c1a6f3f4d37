"""What a host writes in front of every caption goes through a language model once, and not in every step.

Families like Qwen-Image put a system prompt of dozens of tokens there. A causal model looks at no token behind the one
that it computes: state, key and value of each of these are the same whatever the caption and its word are. So each
layer gets the tokens behind them alone, and their keys and values as those of a text that it has read already.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from typing import Any

import torch
from comfy.sd1_clip import SDClipModel
from comfy.text_encoders import llama
from torch import Tensor, nn

from ....ti_engine.memory.checkpointing import Forward, lent_forwards
from ..models.encoders import text_encoders
from .prompt import tokenize
from .reading import places_of

_LEAST = 16  # tokens; for fewer, one more operation in every layer is not worth it
_CAPTIONS = "S*", "a photo of S*"  # with nothing in common but what the host puts in front of them


def prompt_prefixes(clip: Any) -> dict[SDClipModel, list[int]]:
    """The tokens that stand in front of every caption, for each text encoder of `clip` that need not read them twice.

    Empty for hosts whose layers continue no text (up to 0.8.0).
    """
    encoders = text_encoders(clip)
    continuing = {key: encoder.network for key, encoder in encoders.items() if _layers(encoder.network)}
    if not continuing:
        return {}
    vectors = {key: torch.zeros(1, encoder.width) for key, encoder in encoders.items()}
    one, other = (tokenize(clip, caption, {"S*": vectors}, weights=False) for caption in _CAPTIONS)
    found = {}
    for key, network in continuing.items():
        for name in {place.key for place in places_of(one, vectors[key])}:
            pairs = zip(one[name][0], other[name][0], strict=False)
            common = [token for (token, *_), _ in takewhile(lambda pair: _equal(pair[0][0], pair[1][0]), pairs)]
            # Where a text is filled up in front, what stands there sees what follows.
            if len(common) >= _LEAST and network.special_tokens.get("pad") not in common:
                found[network] = common
    return found


@contextmanager
def frozen_prefixes(prefixes: Mapping[SDClipModel, Sequence[int]]) -> Iterator[None]:
    """While this lasts, encoders compute the tokens of `prefixes` once; afterwards each `forward` is what it was.

    The weights must not change meanwhile. A text that begins otherwise, or several at once, are computed as ever. The
    mask is looked at for the first text: what it says of these tokens follows from them alone.
    """
    with ExitStack() as stack:
        for network, tokens in prefixes.items():
            prefix = _Prefix(tokens)
            stack.enter_context(lent_forwards([network], prefix.around_encoder))
            stack.enter_context(lent_forwards(_layers(network), prefix.around_layer))
        yield


class _Prefix:
    """The first tokens of an encoder's texts."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens, self.count = tokens, len(tokens)
        self.read = False
        """Whether the text that is being encoded begins with them."""
        self.proven = True

    def around_encoder(self, forward: Forward) -> Forward:
        def encode(texts: Sequence[Sequence[Any]], *args: Any, **kwargs: Any) -> Any:
            self.read = self.proven and len(texts) == 1 and self._begins(texts[0])
            try:
                return forward(texts, *args, **kwargs)
            finally:
                self.read = False

        return encode

    def around_layer(self, forward: Forward) -> Forward:
        """A layer whose states [1, T, D] keep their first `count` from the first time on."""
        kept: list[Tensor] = []

        def run(x: Tensor, attention_mask: Any = None, freqs_cis: Any = None, **options: Any) -> Any:
            if self.read and not kept and not looks_only_back(attention_mask, self.count):
                self.read = self.proven = False
            if not self.read:
                return forward(x, attention_mask=attention_mask, freqs_cis=freqs_cis, **options)
            first, rest = slice(self.count), slice(self.count, None)
            if not kept:
                masked = options | {"attention_mask": attention_mask[..., first, first], "past_key_value": []}
                with torch.no_grad():
                    states, (key, value, _) = forward(x[:, first], freqs_cis=_rows(freqs_cis, first), **masked)
                # As weights, of which no gradient needs copies.
                kept.extend(nn.Parameter(tensor, requires_grad=False) for tensor in (states, key, value))
            states, key, value = kept
            masked = options | {"attention_mask": attention_mask[..., rest, :]}
            masked["past_key_value"] = (key, value, self.count)
            behind, _ = forward(x[:, rest], freqs_cis=_rows(freqs_cis, rest), **masked)
            return torch.cat((states, behind), dim=1), None

        return run

    def _begins(self, text: Sequence[Any]) -> bool:
        return len(text) > self.count and all(map(_equal, text, self.tokens)) and not any(map(_is_picture, text))


def _layers(network: SDClipModel) -> list[nn.Module]:
    """The layers of a causal language model that can go on behind a text; none of any other network."""
    model: Any = getattr(network.transformer, "model", None)
    if type(model) is not getattr(llama, "Llama2_", None) or model.config.transformer_type == "gemma3":
        return []  # the windows of Gemma 3 slide over what is given to a layer
    layers = list(model.layers)
    continuing = all("past_key_value" in inspect.signature(type(layer).forward).parameters for layer in layers)
    return layers if continuing else []


def _equal(token: Any, other: Any) -> bool:
    return isinstance(token, int) and isinstance(other, int) and token == other


def _is_picture(token: Any) -> bool:
    """Numbers and vectors are words; pictures, which change the positions around them, are dictionaries."""
    return isinstance(token, dict)


def looks_only_back(mask: Tensor | None, count: int) -> bool:
    """Whether the first `count` tokens attend to some of themselves, and to nothing behind them, by a mask [..., T, T]
    that is added. One for whom everything is masked, as padding in front is, attends to everything alike."""
    if mask is None or not mask.is_floating_point():
        return False
    seen = mask[..., :count, :] > torch.finfo(mask.dtype).min / 8
    astray = ~seen[..., :count].any(-1) | seen[..., count:].any(-1)
    return not bool(astray.any())


def _rows(tables: Any, rows: slice) -> Any:
    """Those positions of rotary tables [..., T, d]."""
    return tuple(table[..., rows, :] for table in tables)
