"""Runs of the toy that are kept on disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from toy import ToyBackend, noisy_set, same, toy_config

from ti_engine import TrainConfig, TrainRecord, start_run, train
from ti_engine.run.about import describe_run
from ti_engine.run.folder import RunFolder, SavedRun
from ti_engine.run.kept_run import KeptRun
from ti_engine.run.key import run_key
from ti_engine.run.store import RunStore

TWO_ENCODERS = {"clip_l": 6, "clip_g": 5}


def wide() -> ToyBackend:
    """Whose vectors, eight of them, fill a chunk of the trajectory with every 20 states."""
    return ToyBackend(widths={"clip_l": 400})


def never_waits(sentence: str) -> None:
    raise AssertionError(sentence)


def saved_run(key: str, **settings: Any) -> SavedRun:
    """A finished run of 12 steps as the command line keeps it, below the working folder."""
    backend, config = ToyBackend(widths={"clip_l": 768}), toy_config(steps=12, **settings)
    with RunStore(Path("textual_inversion")).open(key, describe_run(config, "toy", [], 2), False, print) as kept:
        state = start_run(backend, config)
        for step in train(backend, noisy_set(backend), config, state):
            kept.keep(step)
        kept.finish(state, config)
    found = kept.folder.read()
    assert found is not None
    return found


def go_on(
    store: RunStore,
    config: TrainConfig,
    until: int | None = None,
    backend: ToyBackend | None = None,
    after: Callable[[KeptRun, int], object] = lambda run, step: None,
    waiting: Callable[[str], None] = never_waits,
) -> KeptRun:
    """Trains as far as `until` and is stopped there, or to the end. after: called after every step, with its number."""
    backend = backend or ToyBackend(widths=TWO_ENCODERS)
    key = run_key("toy", [torch.zeros(3, 64, 64)], [None], config)
    with store.open(key, {"settings": config.to_dict()}, config.if_exists == "retrain", waiting) as run:
        state = start_run(backend, config)
        run.restore(state)
        for step in train(backend, noisy_set(backend), config, state):
            run.keep(step)
            after(run, step.index)
            if step.index == until:
                return run
        run.finish(state, config)
    return run


def on_disk(run: KeptRun) -> SavedRun:
    found = run.folder.read()
    assert found is not None
    return found


def saved(run: KeptRun) -> TrainRecord:
    return on_disk(run).record


def differences(first: RunFolder, second: RunFolder) -> list[str]:
    """Names of all that is not equal to the bit in two finished runs on disk; what a clock or the moments of writing
    decide does not count."""
    one, two = _contents(first), _contents(second)
    return [name for name in sorted({*one, *two}) if not _same_content(one.get(name), two.get(name))]


def _contents(folder: RunFolder) -> dict[str, Any]:
    found = folder.read()
    assert found is not None
    record = found.record
    tensors = {name: value for name, value in found.tensors.items() if not name.startswith("tail.")}
    vectors = {f"step {n} {key}": rows for n, state in record.trajectory.items() for key, rows in state.items()}
    evaluations = {f"evaluation {step}": losses for step, losses in record.sample_losses.items()}
    candidates = {f"candidate {steps}": losses for steps, losses in record.candidate_losses.items()}
    facts = {name: value for name, value in found.facts.items() if name not in ("seconds", "chunks")}
    lines = [json.loads(line) for line in folder.log_file.read_text("utf-8").splitlines()]
    log = [{name: value for name, value in line.items() if name != "seconds"} for line in lines]
    files = {str(file.relative_to(folder.path)): file for file in folder.path.rglob("*") if file.is_file()}
    pictures = {name: file.read_bytes() for name, file in files.items() if name.endswith(".png")}
    others = {name for name in files if not name.startswith("trajectory")}  # also what a killed write has left
    facts |= {"log": log, "config": folder.config(), "files": others, "losses": record.losses}
    facts |= {"returned": record.returned, "all evaluations": record.evaluations}
    return tensors | vectors | evaluations | candidates | pictures | facts


def _same_content(one: object, two: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    return type(one) is type(two) and one == two


def equal(first: TrainRecord, second: TrainRecord) -> bool:
    return (
        same(first, second)
        and first.evaluations == second.evaluations
        and first.returned == second.returned
        and first.result_loss == second.result_loss
        and first.unlearned() == second.unlearned()
    )
