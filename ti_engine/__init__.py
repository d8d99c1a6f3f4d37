"""Textual Inversion: learn the embedding of a new word with every weight of the model frozen.

In short:

    dataset = encode_training_set(backend, pictures, config)
    for step in train(backend, dataset, config):
        print(step.index, step.loss)
    word = step.record.embedding()

Importing this package loads no torch: each name is imported from its module when it is first asked for (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.captions import CaptionSource
    from .data.training_set import TrainingSet
    from .method.noise import NoiseSchedule
    from .training.advice import result_warnings, setting_warnings
    from .training.backend import Backend, EncodedCaptions, EncoderInfo, Words
    from .training.config import PRESETS, TrainConfig
    from .training.loop import TrainStep, train
    from .training.pictures_to_latents import encode_training_set
    from .training.record import TrainRecord
    from .training.state import RunState, start_run
    from .word.embedding import TokenEmbedding
    from .word.placeholder import DEFAULT_PLACEHOLDER

__all__ = [
    "DEFAULT_PLACEHOLDER",
    "PRESETS",
    "Backend",
    "CaptionSource",
    "EncodedCaptions",
    "EncoderInfo",
    "NoiseSchedule",
    "RunState",
    "TokenEmbedding",
    "TrainConfig",
    "TrainRecord",
    "TrainStep",
    "TrainingSet",
    "Words",
    "encode_training_set",
    "result_warnings",
    "setting_warnings",
    "start_run",
    "train",
]

_MODULES = {
    "CaptionSource": "data.captions",
    "TrainingSet": "data.training_set",
    "encode_training_set": "training.pictures_to_latents",
    "NoiseSchedule": "method.noise",
    "result_warnings": "training.advice",
    "setting_warnings": "training.advice",
    "Backend": "training.backend",
    "EncodedCaptions": "training.backend",
    "EncoderInfo": "training.backend",
    "Words": "training.backend",
    "PRESETS": "training.config",
    "TrainConfig": "training.config",
    "TrainRecord": "training.record",
    "TrainStep": "training.loop",
    "train": "training.loop",
    "RunState": "training.state",
    "start_run": "training.state",
    "TokenEmbedding": "word.embedding",
    "DEFAULT_PLACEHOLDER": "word.placeholder",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
