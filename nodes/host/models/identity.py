"""What tells the models of a run from others, as far as training is concerned."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import Tensor

from ....ti_engine import NoiseSchedule
from .fingerprint import weights_fingerprint


def models_identity(patcher: Any, clip: Any, vae: Any, schedule: NoiseSchedule) -> str | None:
    """SHA-256 in hex over weights, patches, noise levels and the layer of the text encoder that is used.

    None for models that carry what cannot be compared: functions, hooks and replaced parts of other nodes.
    """
    if _carries_code(patcher) or _carries_code(clip.patcher):
        return None
    digest = hashlib.sha256(weights_fingerprint([patcher, clip.patcher, vae.patcher]).encode())
    settings = (clip.layer_idx, sorted(getattr(clip, "tokenizer_options", {}).items()))
    digest.update(str((settings, str(patcher.model.model_config.unet_config))).encode())
    for value in vars(schedule).values():
        digest.update(value.double().cpu().numpy().tobytes() if isinstance(value, Tensor) else str(value).encode())
    return digest.hexdigest()


def _carries_code(patcher: Any) -> bool:
    replaced = patcher.object_patches.keys() - {"model_sampling"}  # its noise levels are compared
    names = ("model_options", "wrappers", "callbacks", "injections", "hook_patches", "forced_hooks", "attachments")
    return bool(replaced) or any(_holds(getattr(patcher, name, None)) for name in names)


def _holds(value: Any) -> bool:
    """Whether there is anything in nested dictionaries."""
    if isinstance(value, dict):
        return any(_holds(inner) for inner in value.values())
    return bool(value)
