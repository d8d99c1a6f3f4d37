"""A long run that is over keeps fewer states, and still gives what it returned to the bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from kept_runs import on_disk
from toy import ToyBackend, noisy_set, toy_config

from ti_engine import TrainConfig, TrainRecord, start_run, train
from ti_engine.files.formats.metadata import training_record
from ti_engine.method.sphere import scaled_to
from ti_engine.run import folder as folder_module
from ti_engine.run import kept_run, trajectory
from ti_engine.run.folder import SavedRun
from ti_engine.run.kept_run import KeptRun
from ti_engine.run.lock import NoLockError
from ti_engine.run.pick import pick_word, spread_steps, steps_between
from ti_engine.run.store import RunStore
from ti_engine.training.result import describe_states

STEPS = 60
STATE = 8 * 400 * 4  # bytes of the eight vectors
EIGHT_STATES = 8 * STATE


@pytest.fixture(autouse=True)
def room_for_eight_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the 61 of the run, and several chunks in each run."""
    monkeypatch.setattr(trajectory, "MOST_BYTES", EIGHT_STATES)
    monkeypatch.setattr(trajectory, "_CHUNK_BYTES", 10 * STATE)
    monkeypatch.setattr(kept_run, "PAUSE", 0)


def trained(
    root: Path, until: int | None = None, pictures_at: tuple[int, ...] = (), **changes: object
) -> tuple[KeptRun, TrainRecord]:
    """The run on disk, and its record in memory with every state."""
    config = toy_config(steps=STEPS, num_vectors=8, evaluate_every=10, learning_rate=0.05, **changes)
    backend = ToyBackend(widths={"clip_l": 400})
    with RunStore(root).open("ab" * 16, about(config), False, print) as run:
        state = start_run(backend, config)
        run.restore(state)
        for step in train(backend, noisy_set(backend), config, state):
            run.keep(step)
            if step.index in pictures_at:
                run.keep_preview(step.index, torch.zeros(3, 8, 8))
            if step.index == until:
                return run, state.record
        run.finish(state, config)
    return run, state.record


def about(config: TrainConfig) -> dict[str, object]:
    return {"settings": config.to_dict(), "model": "toy", "pictures": 4}


@pytest.fixture(params=["free", "vocabulary"])
def thin(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[SavedRun, TrainRecord]:
    run, record = trained(tmp_path, norm=request.param)
    return on_disk(run), record


def test_few_states_stay_and_among_them_the_first_the_best_and_the_last(thin: tuple[SavedRun, TrainRecord]) -> None:
    saved, whole = thin
    best = min(whole.evaluations, key=whole.evaluations.__getitem__)
    assert {0, STEPS, best} <= set(saved.record.trajectory)
    assert {step for step in saved.record.trajectory if step % saved.record.every} <= {best, STEPS}
    assert len(saved.record.trajectory) <= 8 + 2
    for step, state in saved.record.trajectory.items():
        assert torch.equal(state["clip_l"], whole.trajectory[step]["clip_l"])
    assert saved.folder.size() < 2 * EIGHT_STATES
    assert not list((saved.folder.path / "trajectory").iterdir())


def test_losses_evaluations_and_the_result_stay_to_the_bit(thin: tuple[SavedRun, TrainRecord]) -> None:
    saved, whole = thin
    assert saved.finished and saved.record.losses == whole.losses and saved.record.evaluations == whole.evaluations
    assert saved.record.returned == whole.returned
    assert torch.equal(saved.record.embedding().vectors["clip_l"], whole.embedding().vectors["clip_l"])
    average = range(STEPS // 2 + 1, STEPS + 1)
    assert torch.equal(saved.record.mean_vectors(average)["clip_l"], whole.mean_vectors(average)["clip_l"])


def test_a_killed_write_leaves_the_whole_run_or_the_thinned_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ti_engine.run.folder.RunFolder.remove_chunks", lambda folder, first: None)
    run, whole = trained(tmp_path)
    assert list((run.folder.path / "trajectory").iterdir())  # as if killed before they were deleted
    monkeypatch.undo()
    with RunStore(tmp_path).open(run.id, {}, False, print):
        assert not list((run.folder.path / "trajectory").iterdir())
    assert torch.equal(on_disk(run).record.embedding().vectors["clip_l"], whole.embedding().vectors["clip_l"])


@pytest.mark.parametrize("changes", [{"until": 40}, {"schedule": "constant", "early_stop": False}])
def test_a_run_that_can_go_on_keeps_every_state(tmp_path: Path, changes: dict[str, object]) -> None:
    run, whole = trained(tmp_path, **changes)  # pyright: ignore[reportArgumentType]
    assert on_disk(run).record.trajectory.keys() == whole.trajectory.keys()


def test_steps_with_a_preview_stay(tmp_path: Path) -> None:
    run, whole = trained(tmp_path, pictures_at=(7, 50))
    for step in (7, 50):
        assert torch.equal(on_disk(run).record.trajectory[step]["clip_l"], whole.trajectory[step]["clip_l"])


def test_a_reader_gets_the_run_that_ends_while_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = trained(tmp_path, until=STEPS - 1)
    unseal, ended = folder_module.unseal, []

    def end_it(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
        read = unseal(path)
        if not ended:
            ended.append(True)
            trained(tmp_path)
        return read

    monkeypatch.setattr(folder_module, "unseal", end_it)
    assert on_disk(run).finished


def test_who_has_no_lock_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have written a chunk, and be about to write the state that needs it."""

    def no_lock(*_: object) -> None:
        raise NoLockError("no locks here")

    run, _ = trained(tmp_path, until=40)
    ahead = run.folder.chunk_file(99)
    ahead.write_bytes(b"of another process")
    monkeypatch.setattr("ti_engine.run.store.hold", no_lock)
    with RunStore(tmp_path).open(run.id, {}, False, print):
        assert ahead.exists()
    monkeypatch.undo()
    with RunStore(tmp_path).open(run.id, {}, False, print):
        assert not ahead.exists()


def test_a_step_that_is_gone_is_refused_with_its_neighbours(thin: tuple[SavedRun, TrainRecord]) -> None:
    saved, _ = thin
    with pytest.raises(
        ValueError, match=r"no longer has the vectors after step 9: .* every 8 steps. Near are .* 8 and"
    ):
        steps_between(saved, 9, 9)
    assert steps_between(saved, -1, -1) == range(STEPS, STEPS + 1)


def test_a_window_is_the_mean_of_the_states_that_are_left(thin: tuple[SavedRun, TrainRecord]) -> None:
    saved, whole = thin
    steps = steps_between(saved, 3, 25)
    assert steps == range(8, 26, 8)
    assert describe_states(steps) == "the mean of the vectors after steps 8 to 24, taken every 8 steps"
    mean = torch.stack([whole.trajectory[step]["clip_l"] for step in (8, 16, 24)]).mean(0)
    expected = scaled_to(mean, whole.norms["clip_l"]) if whole.norms else mean
    word = pick_word(saved, steps)
    assert torch.equal(word.vectors["clip_l"], expected)
    told = training_record(word.metadata)
    assert (told["returned_steps"], told["returned_every"]) == ([8, 24], 8)
    assert steps_between(saved, -3, -1) == range(STEPS, STEPS + 1)  # the only one left
    with pytest.raises(ValueError, match="no longer has"):
        steps_between(saved, 9, 10)


def test_the_sheet_shows_the_nearest_states(thin: tuple[SavedRun, TrainRecord]) -> None:
    saved, _ = thin
    spread = spread_steps(saved, 5)
    assert spread[0] == 0 and spread[-1] == STEPS and set(spread) <= set(saved.record.trajectory)
