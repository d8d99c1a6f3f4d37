"""Runs of the toy that are kept on disk."""

import torch
from toy import ToyBackend, noisy_set, same

from ti_engine import TrainConfig, TrainRecord, start_run, train
from ti_engine.run.folder import SavedRun
from ti_engine.run.kept_run import KeptRun
from ti_engine.run.key import run_key
from ti_engine.run.store import RunStore

TWO_ENCODERS = {"clip_l": 6, "clip_g": 5}


def wide() -> ToyBackend:
    """Whose vectors, eight of them, fill a chunk of the trajectory with every 20 states."""
    return ToyBackend(widths={"clip_l": 400})


def never_waits(sentence: str) -> None:
    raise AssertionError(sentence)


def go_on(store: RunStore, config: TrainConfig, until: int | None = None, backend: ToyBackend | None = None) -> KeptRun:
    """Trains as far as `until` and is stopped there, or to the end."""
    backend = backend or ToyBackend(widths=TWO_ENCODERS)
    key = run_key("toy", [torch.zeros(3, 64, 64)], [None], config)
    with store.open(key, {"settings": config.to_dict()}, config.if_exists == "retrain", never_waits) as run:
        state = start_run(backend, config)
        run.restore(state)
        for step in train(backend, noisy_set(backend), config, state):
            run.keep(step)
            if step.index == until:
                return run
        run.finish(state)
    return run


def on_disk(run: KeptRun) -> SavedRun:
    found = run.folder.read()
    assert found is not None
    return found


def saved(run: KeptRun) -> TrainRecord:
    return on_disk(run).record


def equal(first: TrainRecord, second: TrainRecord) -> bool:
    return (
        same(first, second)
        and first.evaluations == second.evaluations
        and first.returned == second.returned
        and first.result_loss == second.result_loss
        and first.unlearned() == second.unlearned()
    )
