"""Training in a terminal: a progress bar, Ctrl-C, and what to do where memory does not suffice."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from tqdm import tqdm

from ..data.training_set import TrainingSet
from ..memory.out_of_memory import is_out_of_memory, out_of_memory_advice
from ..training.backend import Backend
from ..training.config import TrainConfig
from ..training.loop import TrainStep, compare_candidates, train
from ..training.record import TrainRecord
from ..training.state import RunState, start_run
from .stop_signal import stop_on_interrupt


@dataclass(frozen=True)
class Learned:
    """interrupted: by Ctrl-C, before the last step. seconds: that it took."""

    record: TrainRecord
    interrupted: bool
    seconds: float


def learn(
    backend: Backend,
    dataset: TrainingSet,
    config: TrainConfig,
    state: RunState | None = None,
    quiet: bool = False,
    keep: Callable[[TrainStep], None] = lambda step: None,
) -> Learned:
    """Train with a progress bar on stderr. Ctrl-C ends the run after the step that is being computed, with the vectors
    chosen as at its end.

    state: where to go on, which is changed in place; by default the start that `config` asks for. keep: called after
    every turn of the loop. Raises KeyboardInterrupt for a second Ctrl-C, ValueError where memory does not hold a step.
    """
    state = start_run(backend, config) if state is None else state
    began, interrupted = time.monotonic(), False
    bar = tqdm(total=config.steps, initial=state.step, disable=quiet, unit="step", file=sys.stderr)
    try:
        with bar, stop_on_interrupt() as is_asked_to_stop:
            for step in train(backend, dataset, config, state):
                keep(step)
                bar.update(step.index - bar.n)
                if step.is_first:
                    for warning in step.record.warnings:
                        bar.write(f"warning: {warning}", file=sys.stderr)
                if math.isfinite(step.loss):
                    bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)
                if is_asked_to_stop() and step.index < state.last_step(config):
                    interrupted = True
                    break
            if interrupted and state.record.losses:
                compare_candidates(backend, dataset, config, state)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        advice = out_of_memory_advice(config.batch_size, config.resolution, config.gradient_checkpointing)
        raise ValueError(f"The memory of {backend.device} does not hold a step of training. {advice}") from error
    return Learned(state.record, interrupted, time.monotonic() - began)
