"""A run of fewer steps than one on disk is that run's beginning, and equals the one trained by itself to the bit."""

from __future__ import annotations

from pathlib import Path

import kept_runs
import pytest
import torch
from toy import ToyBackend, noisy_set, toy_config

from ti_engine import TrainConfig, TrainRecord, start_run, train
from ti_engine.run.key import run_key
from ti_engine.run.store import RunStore

TWO_ENCODERS = {"clip_l": 6, "clip_g": 5}


def config(steps: int, **changes) -> TrainConfig:
    return toy_config(steps=steps, **{"schedule": "constant", "early_stop": False, "batch_size": 4, **changes})


def trained(config: TrainConfig, backend: ToyBackend | None = None) -> TrainRecord:
    backend = backend or ToyBackend(widths=TWO_ENCODERS)
    state = start_run(backend, config)
    for _ in train(backend, noisy_set(backend), config, state):
        pass
    return state.record


def kept(root: Path, config: TrainConfig, until: int | None = None, backend: ToyBackend | None = None) -> TrainRecord:
    """The record of a run that goes on from what is on disk, to its end or broken off after the step `until`."""
    backend = backend or ToyBackend(widths=TWO_ENCODERS)
    with RunStore(root).open(run_key("toy", [], [], config), {}, False, print) as run:
        state = start_run(backend, config)
        run.restore(state)
        for step in train(backend, noisy_set(backend), config, state):
            run.keep(step)
            if step.index == until:
                break
        else:
            run.finish(state, config)
    return state.record


def files_of_runs(root: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in root.glob("*/**/*") if file.is_file() and file.parent.name != ".locks"}


def equal(first: TrainRecord, second: TrainRecord) -> bool:
    return (
        kept_runs.equal(first, second)
        and (first.stopped, first.parts, first.warnings) == (second.stopped, second.parts, second.warnings)
        and all(torch.equal(rows, second.embedding().vectors[key]) for key, rows in first.embedding().vectors.items())
    )


@pytest.mark.parametrize("steps", [1, 2, 13, 40, 158])
@pytest.mark.parametrize("until", [None, 159])
def test_it_equals_the_short_run_trained_directly(tmp_path: Path, steps: int, until: int | None) -> None:
    kept(tmp_path, config(160, evaluate_every=7), until)
    before = files_of_runs(tmp_path)
    short, backend = config(steps, evaluate_every=7), ToyBackend(widths=TWO_ENCODERS)
    assert equal(kept(tmp_path, short, backend=backend), trained(short))
    assert not backend.encoded  # for training: no update was computed
    assert files_of_runs(tmp_path) == before


def test_initial_words_and_another_placeholder(tmp_path: Path) -> None:
    kept(tmp_path, config(30, initial_words="red ball", num_vectors=2))
    short = config(10, initial_words="red ball", num_vectors=2)
    assert equal(kept(tmp_path, short), trained(short))


@pytest.mark.parametrize("norm", ["free", "vocabulary"])
def test_vectors_that_were_reached_later_count_as_unlearned(norm: str) -> None:
    record = trained(config(12, num_vectors=2, norm=norm))
    for step in range(4):  # as if the fourth update had been the first with a gradient for it
        record.trajectory[step]["clip_l"][1] = record.trajectory[0]["clip_l"][1]
    assert record.until(3).unlearned() == {"clip_l": [1]}
    assert not record.until(4).unlearned() and not record.unlearned()


def test_trouble_at_a_later_step_is_not_its_own() -> None:
    record = trained(config(12))
    record.ran_out_of_memory, record.stopped, record.last_good = 9, "The loss became nan at step 13.", 11
    assert record.until(8).ran_out_of_memory is None and record.until(9).ran_out_of_memory == 9
    assert record.until(9).stopped is None and record.until(9).last_state == 9
