"""A training and its run on disk: what is there already, what is computed, and what is said about it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..data.training_set import TrainingSet
from ..run.kept_run import KeptRun
from ..run.store import RunStore
from ..training.backend import Backend
from ..training.config import TrainConfig
from ..training.record import TrainRecord
from ..training.state import RunState, start_run
from ..word.embedding import TokenEmbedding
from .learning import Learned, learn
from .run_text import run_sentence
from .terminal import say, warn

_ANEW = "--if-exists retrain trains anew."


@dataclass(frozen=True)
class Outcome:
    """What a training gave. seconds: of training, all parts of the run together. resumed_from: the step that it went on
    from. reused: no update was computed. interrupted: by Ctrl-C."""

    record: TrainRecord
    seconds: float
    resumed_from: int | None = None
    reused: bool = False
    interrupted: bool = False

    @property
    def unfinished(self) -> bool:
        """Whether the run can go on, which Ctrl-C or trouble has ended."""
        return self.interrupted or self.record.last_good is not None


def train_kept(
    run: KeptRun,
    backend: Backend,
    encode: Callable[[], TrainingSet],
    config: TrainConfig,
    start: TokenEmbedding | None,
    quiet: bool,
) -> Outcome:
    """Computes what is not on disk, and says what was.

    encode: the pictures; called only where they are needed. Raises as `learn` does; a KeyboardInterrupt says how much
    of the run is on disk.
    """
    saved = run.saved
    if saved is not None and saved.is_result_of(config):
        say(f"Not trained again: this run is on disk and finished ({run.id}). {_ANEW}")
        record = saved.record.called(config.placeholder)
        warn(record.warnings)
        return Outcome(record, saved.seconds, reused=True)
    state = start_run(backend, config, start)
    run.restore(state)
    is_beginning = saved is not None and saved.step > config.steps
    if saved is not None and is_beginning:
        say(
            f"Not trained again: a run on disk has made {saved.step} steps, and the first {config.steps} are this run "
            f"({run.id}). {_ANEW}"
        )
    elif state.step:
        say(f"This run goes on from step {state.step} of {state.last_step(config)} ({run.id}).")
    resumed_from = None if is_beginning else state.step or None
    learned = _learn(run, backend, encode(), config, state, quiet)
    if learned.interrupted:
        learned.record.stopped = f"Stopped by hand at step {state.step} of {state.last_step(config)}."
    if learned.record.losses:
        run.finish(state, config, learned.interrupted)
    return Outcome(learned.record, run.seconds, resumed_from, is_beginning, learned.interrupted)


def _learn(
    run: KeptRun, backend: Backend, dataset: TrainingSet, config: TrainConfig, state: RunState, quiet: bool
) -> Learned:
    try:
        return learn(backend, dataset, config, state, quiet, run.keep)
    except KeyboardInterrupt as error:
        run.close()
        facts = run.folder.facts()
        if facts is None or not facts["step"]:
            raise
        raise KeyboardInterrupt(
            f"no word was written. The run is on disk up to step {facts['step']} of {config.steps}; {goes_on(config)}"
        ) from error


def goes_on(config: TrainConfig) -> str:
    """How to go on with a run that is on disk."""
    retrain = " without --if-exists retrain" if config.if_exists == "retrain" else ""
    return f"the same command{retrain} goes on from there"


def make_room(store: RunStore, run: KeptRun, config: TrainConfig) -> None:
    """Keeps all runs below runs_gb, and says what was deleted for it."""
    try:
        deleted = store.shrink(config.runs_gb * 1e9, spared=run.id)
    except OSError as error:
        warn([f"The runs in {store.root} could not be kept below {config.runs_gb:g} GB: {error}"])
        return
    for one in deleted:
        say(
            f"Deleted the run {one.folder.id} ({run_sentence(one, time.time())}): all runs together may take up "
            f"{config.runs_gb:g} GB (--runs-gb)."
        )
