"""Textual Inversion: learn the embedding of a new word with every weight of the model frozen.

In short:

    dataset = encode_training_set(backend, pictures, config)
    for step in train(backend, dataset, config):
        print(step.index, step.loss)
    word = step.record.embedding()
"""

from . import early_interrupt  # noqa: F401 (first: the others import torch)
from .advice import result_warnings, setting_warnings
from .backend import Backend, EncodedCaptions, EncoderInfo
from .captions import CaptionSource
from .config import PRESETS, TrainConfig
from .dataset import TrainingSet, encode_training_set
from .embedding import DEFAULT_PLACEHOLDER, TokenEmbedding
from .noise import NoiseSchedule
from .train import TrainRecord, TrainStep, train

__all__ = [
    "DEFAULT_PLACEHOLDER",
    "PRESETS",
    "Backend",
    "CaptionSource",
    "EncodedCaptions",
    "EncoderInfo",
    "NoiseSchedule",
    "TokenEmbedding",
    "TrainConfig",
    "TrainRecord",
    "TrainStep",
    "TrainingSet",
    "encode_training_set",
    "result_warnings",
    "setting_warnings",
    "train",
]
