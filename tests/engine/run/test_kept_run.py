"""A run that goes on from its folder is bit for bit the run that was never broken."""

import json
import math
from pathlib import Path

import pytest
import torch
from kept_runs import differences, equal, go_on, on_disk, saved, wide
from toy import ToyBackend, noisy_set, toy_config

from ti_engine import start_run, train
from ti_engine.files import atomic
from ti_engine.run import kept_run
from ti_engine.run.store import RunStore
from ti_engine.training.loop import compare_candidates


@pytest.mark.parametrize("until", [0, 1, 13, 29])
@pytest.mark.parametrize(("schedule", "norm"), [("cosine", "free"), ("constant", "free"), ("cosine", "vocabulary")])
def test_a_broken_run_goes_on_to_the_bit(tmp_path: Path, until: int, schedule: str, norm: str):
    config = toy_config(schedule=schedule, norm=norm, num_vectors=2, evaluate_every=7, gradient_clip=0.05)
    whole = go_on(RunStore(tmp_path / "whole"), config)
    broken = RunStore(tmp_path / "broken")
    assert not on_disk(go_on(broken, config, until)).finished
    resumed = go_on(broken, config)
    assert on_disk(resumed).finished
    assert equal(saved(whole), saved(resumed))
    lines = [json.loads(line) for line in resumed.folder.log_file.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 31))
    assert [line["loss"] for line in lines] == saved(whole).losses


def test_a_run_can_be_broken_after_every_step(tmp_path: Path):
    config = toy_config(evaluate_every=3)
    store = RunStore(tmp_path / "broken")
    for until in range(30):
        go_on(store, config, until)
    assert equal(saved(go_on(store, config)), saved(go_on(RunStore(tmp_path / "whole"), config)))


def test_a_cool_down_and_a_fallen_loss_scale_go_on(tmp_path: Path):
    config = toy_config(steps=1000, learning_rate=0.02, schedule="constant", evaluate_every=0)

    def backend() -> ToyBackend:
        return ToyBackend(loss_scale=2.0**140)

    whole = saved(go_on(RunStore(tmp_path / "whole"), config, backend=backend()))
    assert 250 <= len(whole.losses) < 1000
    store = RunStore(tmp_path / "broken")
    for until in (10, 150, 200, 230):
        go_on(store, config, until, backend())
    assert equal(whole, saved(go_on(store, config, backend=backend())))


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_run_that_a_person_or_trouble_ended_goes_on_to_the_bit(tmp_path: Path, by_hand: bool):
    config, store = toy_config(evaluate_every=7), RunStore(tmp_path / "broken")
    whole = go_on(RunStore(tmp_path / "whole"), config, backend=ToyBackend())
    backend = ToyBackend(breaks_at=None if by_hand else 40)
    with store.open(whole.id, {"settings": config.to_dict()}, False, print) as run:
        state = start_run(backend, config)
        for step in train(backend, noisy_set(backend), config, state):
            run.keep(step)
            if step.index == 13 and by_hand:
                compare_candidates(backend, noisy_set(backend), config, state)
                break
        run.finish(state, config, stopped_by_hand=by_hand)
    ended = on_disk(run)
    assert not ended.finished and not ended.is_result_of(config) and (ended.record.stopped is None) == by_hand
    assert 0 < ended.step < 30 and ended.record.result_loss is not None
    resumed = go_on(store, config, backend=ToyBackend())
    assert resumed.id == run.id and not differences(resumed.folder, whole.folder)


def test_more_steps_go_on_where_the_schedule_allows_it(tmp_path: Path):
    short = toy_config(schedule="constant", early_stop=False, steps=20, batch_size=4)
    long = toy_config(schedule="constant", early_stop=False, steps=160, batch_size=4)  # has a larger evaluation set
    store = RunStore(tmp_path / "gone on")
    first = go_on(store, short)
    second = go_on(store, long)
    assert first.id == second.id
    assert equal(saved(second), saved(go_on(RunStore(tmp_path / "whole"), long)))


def test_more_steps_leave_no_evaluation_on_the_smaller_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept_run, "PAUSE", 0)  # written after every step
    short, long = (
        toy_config(schedule="constant", early_stop=False, steps=steps, batch_size=4, num_vectors=8, evaluate_every=5)
        for steps in (30, 80)
    )
    store = RunStore(tmp_path / "gone on")
    go_on(store, short, backend=wide())
    go_on(store, long, 50, wide())
    resumed, whole = go_on(store, long, backend=wide()), go_on(RunStore(tmp_path / "whole"), long, backend=wide())
    assert len(list((resumed.folder.path / "trajectory").iterdir())) > 1
    assert not differences(resumed.folder, whole.folder)


def test_fewer_steps_are_the_beginning_of_the_run_on_disk_which_stays(tmp_path: Path):
    short, long = (toy_config(schedule="constant", early_stop=False, steps=n, evaluate_every=5) for n in (13, 100))
    store = RunStore(tmp_path / "long")
    pictures = {5: 0.5, 20: 0.2, None: 0.9}

    def draw(run: kept_run.KeptRun, step: int) -> None:
        for step, grey in pictures.items():
            run.keep_preview(step, torch.full((3, 8, 8), grey))

    for until in (50, None):  # not finished, and finished
        run = go_on(store, long, until, after=lambda run, step: step == 50 and draw(run, step))
        before = {file: file.read_bytes() for file in run.folder.path.rglob("*") if file.is_file()}
        again = go_on(store, short)
        assert again.id == run.id and list(again.previews) == [5]
        assert before == {file: file.read_bytes() for file in run.folder.path.rglob("*") if file.is_file()}
        assert again.saved is not None and not again.saved.is_result_of(short)
    assert saved(go_on(store, long)).losses == saved(go_on(RunStore(tmp_path / "whole"), long)).losses


def test_with_cosine_more_steps_are_another_run(tmp_path: Path):
    store = RunStore(tmp_path)
    assert go_on(store, toy_config(steps=20)).id != go_on(store, toy_config(steps=30)).id


def test_retrain_leaves_the_old_run_and_is_found_first_from_then_on(tmp_path: Path):
    store, config = RunStore(tmp_path), toy_config()
    old = go_on(store, config)
    before = {file: file.read_bytes() for file in old.folder.path.rglob("*") if file.is_file()}
    new = go_on(store, toy_config(if_exists="retrain"))
    assert new.id != old.id and equal(saved(new), saved(old))
    assert go_on(store, config, until=0).id == new.id
    assert before == {file: file.read_bytes() for file in old.folder.path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("file", ["state.safetensors", "trajectory/000000.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "newer", "empty"])
def test_a_damaged_run_stays_and_a_new_one_begins_beside_it(tmp_path: Path, file: str, damage: str):
    store, config = RunStore(tmp_path), toy_config(num_vectors=8)
    run = go_on(store, config, 29, wide())
    path = run.folder.path / file
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[: len(data) // 2],
            "flipped": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
            "foreign": b"PK\x03\x04" + data,
            "newer": data.replace(b'"version":"1"', b'"version":"2"'),
            "empty": b"",
        }[damage]
    )
    left = path.read_bytes()
    new = go_on(store, config, 2, wide())
    assert new.id != run.id and run.id in new.warnings[0] and path.read_bytes() == left
    assert ("version 2" in new.warnings[0]) == (damage == "newer")
    assert go_on(store, config, 3, wide()).id == new.id


def test_a_missing_chunk_is_noticed(tmp_path: Path):
    store, config = RunStore(tmp_path), toy_config(num_vectors=8)
    run = go_on(store, config, 29, wide())
    run.folder.chunk_file(0).unlink()
    assert "missing" in go_on(store, config, 2, wide()).warnings[0]


def test_a_trajectory_of_several_chunks_goes_on_to_the_bit(tmp_path: Path):
    config = toy_config(num_vectors=8, evaluate_every=4)
    store = RunStore(tmp_path / "broken")
    for until in (19, 20, 25):
        go_on(store, config, until, wide())
    resumed = go_on(store, config, backend=wide())
    assert len(list((resumed.folder.path / "trajectory").iterdir())) == 1
    assert equal(saved(resumed), saved(go_on(RunStore(tmp_path / "whole"), config, backend=wide())))


def test_states_of_many_chunks_that_wait_are_written_as_one(tmp_path: Path):
    files: list[int] = []

    def count(run: kept_run.KeptRun, step: int) -> None:
        run._due = 0 if step == 98 else math.inf
        files.append(len(list((run.folder.path / "trajectory").glob("*"))))

    run = go_on(RunStore(tmp_path), toy_config(steps=100, num_vectors=8), backend=wide(), after=count)
    assert files[98] == 0 and files[99] == 1 and len(saved(run).trajectory) == 101


def test_the_picture_of_a_result_is_forgotten_as_soon_as_the_run_goes_on(tmp_path: Path):
    store, config, grey = RunStore(tmp_path), toy_config(), torch.full((3, 8, 8), 0.5)
    stopped = go_on(store, config, 10, after=lambda run, step: step == 10 and run.keep_preview(None, grey))
    file = stopped.folder.preview_file(None)
    assert list(dict(stopped.folder.previews())) == [None]
    assert None in go_on(store, config, 10).previews and file.is_file()  # not gone on yet
    assert None not in go_on(store, config, 11).previews and not file.exists()


def test_the_seconds_of_all_parts_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = [1000.0]
    monkeypatch.setattr(kept_run.time, "monotonic", lambda: now[0])

    def tick(run: kept_run.KeptRun, step: int) -> None:
        now[0] += 20  # seconds that a step takes

    store, config = RunStore(tmp_path), toy_config()
    go_on(store, config, 10, after=tick)
    now[0] = 5.0  # as after a start of the machine
    run = go_on(store, config, after=tick)
    assert on_disk(run).seconds == 20 * (10 + 21)
    lines = [json.loads(line) for line in run.folder.log_file.read_text().splitlines()]
    assert [line["seconds"] for line in lines[:10]] == list(range(20, 201, 20))
    assert [line["seconds"] for line in lines[10:]] == list(range(220, 601, 20))


def test_a_preview_is_the_same_from_memory_and_from_disk(tmp_path: Path):
    picture = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 0.5
    shown: list[torch.Tensor] = []
    run = go_on(RunStore(tmp_path), toy_config(), 3, after=lambda run, step: shown.append(run.keep_preview(3, picture)))
    assert torch.equal(shown[0], dict(run.folder.previews())[3])


def test_what_a_killed_write_left_is_removed(tmp_path: Path):
    store, config = RunStore(tmp_path), toy_config()
    run = go_on(store, config, 3)
    left = [run.folder.path / f".{'ab' * 8}.tmp", run.folder.path / "previews" / f".{'cd' * 8}.tmp"]
    mine = run.folder.path / ".mine.tmp"
    left[1].parent.mkdir()
    for file in (*left, mine):
        file.write_bytes(b"half")
    go_on(store, config, 4)
    assert not any(file.exists() for file in left) and mine.exists()


def steps_in_log(run: kept_run.KeptRun) -> list[int]:
    return [json.loads(line)["step"] for line in run.folder.log_file.read_text().splitlines()]


def test_lines_of_a_log_that_cannot_be_read_or_are_ahead_of_the_state_are_dropped(tmp_path: Path):
    store, config = RunStore(tmp_path), toy_config()
    run = go_on(store, config, 10)
    with run.folder.log_file.open("ab") as log:
        log.write(b'\xff\xfe\n[]\n{"step": "x"}\n{"step": 11}\n{"step": ' + b"[" * 100_000 + b'\n{"step": 12, "lo')
    assert steps_in_log(go_on(store, config)) == list(range(1, 31))


def test_a_log_that_could_not_be_written_whole_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept_run, "PAUSE", 0)  # written after every step
    append, calls = atomic.append, []

    def full(path: Path, data: bytes) -> None:
        calls.append(len(data))
        if len(calls) in (4, 9):
            append(path, data[: len(data) // 2])
            raise OSError("the disk is full")
        append(path, data)

    monkeypatch.setattr(kept_run, "append", full)
    run = go_on(RunStore(tmp_path), toy_config())
    assert len(calls) > 9 and not run.problem and steps_in_log(run) == list(range(1, 31))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_no_line_is_missing_or_twice_where_the_program_ends_around_the_writing_of_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    monkeypatch.setattr(kept_run, "PAUSE", 0)
    store, config, replace = RunStore(tmp_path), toy_config(), atomic.os.replace
    states: list[Path] = []

    def ends(source: Path, target: Path) -> None:
        if target.name == "state.safetensors":
            states.append(target)
        if len(states) < 6 or (len(states) == 6 and moment == "after"):
            replace(source, target)
        if len(states) >= 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "replace", ends)
    with pytest.raises(KeyboardInterrupt):
        go_on(store, config)
    monkeypatch.setattr(atomic.os, "replace", replace)
    assert steps_in_log(go_on(store, config)) == list(range(1, 31))


def test_a_preview_ahead_of_the_state_on_disk_is_drawn_again(tmp_path: Path):
    store, config, grey = RunStore(tmp_path), toy_config(), torch.full((3, 8, 8), 0.5)
    run = go_on(store, config, 10)
    for step in (5, 10, 20):
        run.keep_preview(step, grey)
    assert sorted(go_on(store, config, 10).previews, key=str) == [10, 5]
