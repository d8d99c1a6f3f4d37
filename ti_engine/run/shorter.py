"""A run of fewer steps, out of a longer one on disk: the trajectory holds it already."""

from __future__ import annotations

from dataclasses import replace

from ..data.training_set import TrainingSet
from ..training.backend import Backend
from ..training.config import TrainConfig
from ..training.loop import train
from ..training.record import TrainRecord
from ..training.state import start_run
from ..word.embedding import TokenEmbedding
from .folder import SavedRun
from .key import steps_matter


def holds_shorter(saved: SavedRun, config: TrainConfig) -> bool:
    """Whether a run with these settings, and the same key, is the beginning of the one on disk."""
    return not steps_matter(config) and config.steps < saved.step


def shorter_record(backend: Backend, dataset: TrainingSet, config: TrainConfig, saved: SavedRun) -> TrainRecord:
    """The record of the run that `holds_shorter` speaks of, as if it had been trained by itself, bit for bit.

    No update is computed: the model only looks at the fixed evaluation set with the vectors that may be returned, and
    with those that were looked at before where the longer run has a larger set. The run on disk stays as it is.
    """
    record = saved.record.until(config.steps)
    record.placeholder = config.placeholder
    there = TokenEmbedding(record.trajectory[-1])
    state = start_run(backend, replace(config, initial_words=""), there)
    state.step, state.parts, state.record = config.steps, saved.facts["parts"], record
    for _ in train(backend, dataset, config, state):
        pass  # its one turn, before an update that it does not make
    return record
