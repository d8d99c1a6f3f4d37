"""Captions through the host's text encoders, cut off from them: the denoiser's graph ends at what they gave.

The loss's gradient is collected there, summed over the samples that share a caption, and carried on to the vectors in
one backward pass of the encoders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

from ....ti_engine.memory.overwritten import Keep, overwriting_allowed
from ....ti_engine.training.backend import EncodedCaptions, Words
from .prompt import Tokens, tokenize
from .reading import check_encodable, places_read

Entry = dict[str, Any]
"""One text as the host's encode gives it: "cond" [1, T, D], and what else its family has ("pooled_output", ...)."""


@dataclass
class Conditioning:
    """The distinct captions of a batch, and which of them each of its B samples has."""

    distinct: list[Entry]
    index: list[int]


@contextmanager
def encoder_guard() -> Iterator[Keep]:
    """What the encoders need around a forward with gradients; gives what makes the copies (overwriting_allowed)."""
    # Their layers add in place, which autograd refuses without the first.
    calls = _Calls()
    with overwriting_allowed(calls.is_weight) as keep, calls:
        yield keep


class _Calls(TorchFunctionMode):
    """Newer hosts call `torch.add(a, b, out=c)`; without its out the result is returned and used, so this is exact.

    Weights that the host has cast for a layer are known from the call of that layer, so that they are not copied again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._weight: Tensor | None = None

    def is_weight(self, tensor: Tensor) -> bool:
        return tensor is self._weight

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.add, torch.mul):
            kwargs.pop("out", None)
        if func is not linear or len(args) < 2 or args[1].requires_grad:
            return func(*args, **kwargs)
        self._weight = args[1]
        try:
            return func(*args, **kwargs)
        finally:
            self._weight = None


def encode_captions(
    clip: Any, captions: Sequence[str], words: Words, differentiable: bool, together: bool
) -> EncodedCaptions:
    """Captions with vectors in place of the words, each distinct one once; `cond` is a Conditioning.

    together: in one pass; then nothing but the token states is kept of them. The CLIP has to be loaded already
    (borrow.Loan).
    """
    distinct = list(dict.fromkeys(captions))
    tokens = [tokenize(clip, caption, words, weights=False) for caption in distinct]
    with torch.set_grad_enabled(differentiable), encoder_guard():
        encoded = [
            entry for part in ([tokens] if together else [[t] for t in tokens]) for entry in run_encoders(clip, part)
        ]
    leaves = [dict(entry) for entry in encoded]
    outputs = []
    for entry, leaf in zip(encoded, leaves, strict=True):
        for name in _tensors(entry):
            leaf[name] = entry[name].detach().requires_grad_(differentiable)
            outputs.append((entry[name], leaf[name]))
    return EncodedCaptions(Conditioning(leaves, [distinct.index(c) for c in captions]), outputs)


def rows_read(clip: Any, captions: Sequence[str], words: Words) -> dict[str, list[set[int]]]:
    """Encoder key -> for each caption, the rows of the one word in `words` that reach the model through it.

    The CLIP has to be loaded already. Raises ValueError as check_encodable does.
    """
    (vectors,) = words.values()
    found: dict[str, list[set[int]]] = {key: [] for key in vectors}
    with torch.no_grad(), encoder_guard():
        for caption in captions:
            tokens = tokenize(clip, caption, words, weights=False)
            check_encodable(tokens)
            read = places_read(clip, tokens, vectors, lambda tokens: run_encoders(clip, [tokens])[0])
            for key, places in read.items():
                found[key].append({place.row for place in places})
    return found


def run_encoders(clip: Any, captions: Sequence[Tokens]) -> list[Entry]:
    """An entry for every caption; of several captions in one pass only their token states.

    Calls the encoders as `CLIP.encode_from_tokens` does, but without loading: that could evict the UNet on loan.
    """
    encoder = clip.cond_stage_model
    encoder.reset_clip_options()
    if clip.layer_idx is not None:
        encoder.set_clip_options({"layer": clip.layer_idx})
    encoder.set_clip_options({"execution_device": clip.patcher.load_device})
    if len(captions) == 1:
        cond, pooled, *more = encoder.encode_token_weights(captions[0])
        return [{"cond": cond, "pooled_output": pooled, **(more[0] if more else {})}]
    (key,) = captions[0]
    chunks = [len(caption[key]) for caption in captions]
    together_encoded = encoder.encode_token_weights({key: [chunk for caption in captions for chunk in caption[key]]})[0]
    parts = together_encoded[0].unflatten(0, (sum(chunks), -1)).split(chunks)
    return [{"cond": part.flatten(0, 1)[None]} for part in parts]


def _tensors(entry: Entry) -> list[str]:
    """The tensors of an entry that gradients may go through: token states, pooled text, a second encoder's states.
    Masks and token numbers are whole numbers."""
    return [name for name, value in entry.items() if isinstance(value, Tensor) and value.is_floating_point()]
