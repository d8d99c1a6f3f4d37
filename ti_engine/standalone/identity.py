"""What tells the models of a pipeline from others, as far as training is concerned: what they hold, not their place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..method.noise import NoiseSchedule

_NUMBERS = 256  # of each tensor that count by their place, evenly spaced
_WORD = 8  # bytes
_NOT_IN_IT = ("transformers_version",)  # and all settings with a leading underscore: versions and paths


def models_identity(networks: Iterable[nn.Module], tokenizers: Iterable[Any], schedule: NoiseSchedule) -> str:
    """SHA-256 in hex over all weights, the settings of the networks, the tokenizers' words, and the noise levels.

    Every bit of a weight counts, by a sum that runs at the speed of memory, where a hash takes a second for each GB. By
    their place only some numbers of each tensor count.
    """
    digest = hashlib.sha256()
    for network in networks:
        digest.update(f"{type(network).__name__} {_settings(network.config)}".encode())
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(_mark(tensor.detach()))
    for tokenizer in tokenizers:
        words = json.dumps([tokenizer.model_max_length, sorted(tokenizer.get_vocab().items())])
        digest.update(words.encode("utf-8", "surrogatepass"))
    for value in vars(schedule).values():
        digest.update(value.double().cpu().numpy().tobytes() if isinstance(value, Tensor) else str(value).encode())
    return digest.hexdigest()


def _settings(config: Any) -> str:
    settings = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    kept = {key: value for key, value in settings.items() if not key.startswith("_") and key not in _NOT_IN_IT}
    return json.dumps(kept, sort_keys=True, default=str)


def _mark(tensor: Tensor) -> bytes:
    flat = tensor.reshape(-1)
    some = flat[:: max(1, len(flat) // _NUMBERS)][:_NUMBERS]
    bits = flat.view(torch.uint8)
    whole = bits[: len(bits) // _WORD * _WORD]
    if whole.storage_offset() % _WORD:
        whole = whole.clone()
    total = int(whole.view(torch.int64).sum()) + int(bits[len(whole) :].sum())  # wraps around, as integers do
    return f"{total} ".encode() + some.to("cpu", torch.float64).numpy().tobytes()
