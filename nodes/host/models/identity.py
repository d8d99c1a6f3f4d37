"""What tells the models of a run from others, as far as training is concerned."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from ....ti_engine import NoiseSchedule
from .fingerprint import weights_fingerprint


def models_identity(patcher: Any, clip: Any, vae: Any, schedule: NoiseSchedule) -> str | None:
    """SHA-256 in hex over weights, patches, noise levels and the layer of the text encoder that is used.

    None for models that carry what cannot be compared: functions, hooks and replaced parts of other nodes.
    """
    patched_values = [_patched_values(one) for one in (patcher, clip.patcher)]
    if None in patched_values or _carries_code(patcher) or _carries_code(clip.patcher):
        return None
    digest = hashlib.sha256(weights_fingerprint([patcher, clip.patcher, vae.patcher]).encode())
    options = sorted(getattr(clip, "tokenizer_options", {}).items())
    digest.update(str((clip.layer_idx, options, patched_values, patcher.model.model_config.unet_config)).encode())
    for value in vars(schedule).values():
        digest.update(value.double().cpu().numpy().tobytes() if isinstance(value, Tensor) else str(value).encode())
    return digest.hexdigest()


def _patched_values(patcher: Any) -> list[tuple[str, str]] | None:
    """Names and values of the parts that other nodes have replaced; None if one of them is more than a value."""
    parts = {name: part for name, part in patcher.object_patches.items() if name != "model_sampling"}  # compared above
    if not all(isinstance(part, (str, int, float, torch.dtype, type(None))) for part in parts.values()):
        return None
    return sorted((name, str(part)) for name, part in parts.items())


def _carries_code(patcher: Any) -> bool:
    names = (
        "model_options", "wrappers", "callbacks", "injections", "hook_patches", "forced_hooks", "attachments",
        "weight_wrapper_patches",
    )  # fmt: skip
    return any(_holds(getattr(patcher, name, None)) for name in names)


def _holds(value: Any) -> bool:
    """Whether there is anything in nested dictionaries."""
    if isinstance(value, dict):
        return any(_holds(inner) for inner in value.values())
    return bool(value)
