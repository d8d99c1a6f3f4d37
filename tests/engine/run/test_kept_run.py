"""A run that goes on from its folder is bit for bit the run that was never broken."""

import json
from pathlib import Path

import pytest
import torch
from toy import ToyBackend, noisy_set, same, toy_config

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


@pytest.mark.parametrize("until", [0, 1, 13, 29])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_broken_run_goes_on_to_the_bit(tmp_path: Path, until: int, schedule: str):
    config = toy_config(schedule=schedule, num_vectors=2, evaluate_every=7, gradient_clip=0.05)
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


def test_more_steps_go_on_where_the_schedule_allows_it(tmp_path: Path):
    short = toy_config(schedule="constant", early_stop=False, steps=20, batch_size=4)
    long = toy_config(schedule="constant", early_stop=False, steps=160, batch_size=4)  # has a larger evaluation set
    store = RunStore(tmp_path / "gone on")
    first = go_on(store, short)
    second = go_on(store, long)
    assert first.id == second.id
    assert equal(saved(second), saved(go_on(RunStore(tmp_path / "whole"), long)))


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
