"""All runs in one folder: listed, deleted, and trained by one process at a time."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from kept_runs import go_on, on_disk, saved
from toy import same, toy_config

from ti_engine.files import atomic
from ti_engine.run import lock
from ti_engine.run.kept_run import KeptRun
from ti_engine.run.store import RunStore

SEEDS = range(6)


def config_of(seed: int):
    return toy_config(seed=seed, steps=10)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def runs(store: RunStore) -> list[KeptRun]:
    """Six runs, the first the oldest; those with seeds 1 and 4 are not finished."""
    runs = [go_on(store, config_of(seed), 5 if seed in (1, 4) else None) for seed in SEEDS]
    for age, run in enumerate(reversed(runs)):
        os.utime(run.folder.state_file, (1e9 - age, 1e9 - age))
    return runs


def ids(runs: list) -> list[str]:
    return [run.id if isinstance(run, KeptRun) else run.folder.id for run in runs]


def total(store: RunStore) -> int:
    return sum(run.size for run in store.runs())


def test_runs_are_listed_the_newest_first(store: RunStore, runs: list[KeptRun]):
    listed = store.runs()
    assert ids(listed) == ids(runs[::-1])
    assert [run.facts["finished"] for run in listed] == [True, False, True, True, False, True]
    assert [run.about["settings"]["seed"] for run in listed] == list(SEEDS)[::-1]
    on_the_disk = [file for file in store.root.rglob("*") if file.is_file() and ".locks" not in file.parts]
    assert total(store) == sum(file.stat().st_size for file in on_the_disk)


def test_a_list_shows_runs_alone(store: RunStore, runs: list[KeptRun], tmp_path: Path):
    known = ids(store.runs())
    foreign = store.root / ("0" * 32)
    (foreign / "previews").mkdir(parents=True)
    (store.root / "mine").mkdir()
    (store.root / ("1" * 32)).write_text("a file")
    (store.root / ("2" * 32)).symlink_to(tmp_path / "nowhere")
    shutil.copytree(runs[0].folder.path, store.root / "copy of a run")
    shutil.copytree(runs[0].folder.path, store.root / ("3" * 32))
    (store.root / ("3" * 32) / "state.safetensors").write_bytes(b"damaged")
    shutil.copytree(runs[0].folder.path, store.root / ("4" * 32))
    (store.root / ("4" * 32) / "config.json").unlink()
    shutil.copytree(runs[0].folder.path, store.root / ("A" * 32))
    assert ids(store.runs()) == known
    store.shrink(0)
    assert foreign.is_dir() and (store.root / "copy of a run").is_dir() and (store.root / ("3" * 32)).is_dir()
    assert RunStore(tmp_path / "none").runs() == [] and RunStore(foreign / "x" / "y").runs() == []


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../" + "a" * 32, "a" * 31, "a" * 33, "A" * 32, "g" * 32, "a" * 32 + "\n", "/" + "a" * 32]
)
def test_what_is_no_id_is_no_path(store: RunStore, name: str):
    with pytest.raises(ValueError, match="is not the id of a run"):
        store.folder(name)


def test_shrinking_deletes_the_oldest_finished_runs(store: RunStore, runs: list[KeptRun]):
    sizes = {run.folder.id: run.size for run in store.runs()}
    most = sum(sizes.values()) - sizes[runs[0].id] - 1  # takes two of them
    assert ids(store.shrink(most)) == ids([runs[0], runs[2]])
    assert ids(store.runs()) == ids([runs[5], runs[4], runs[3], runs[1]]) and total(store) <= most
    assert store.shrink(most) == []


def test_shrinking_spares_unfinished_runs_and_the_one_that_is_named(store: RunStore, runs: list[KeptRun]):
    assert ids(store.shrink(0, spared=runs[3].id)) == ids([runs[0], runs[2], runs[5]])
    assert ids(store.runs()) == ids([runs[4], runs[3], runs[1]])
    assert not runs[0].folder.path.exists() and on_disk(runs[1]).step == 5


def test_shrinking_spares_a_run_that_somebody_has_open(store: RunStore, runs: list[KeptRun]):
    with store.open(runs[0].id, {}, False, print):
        assert not store.delete(runs[0].folder)
        assert ids(store.shrink(0)) == ids([runs[2], runs[3], runs[5]])
    assert store.delete(runs[0].folder) and not runs[0].folder.path.exists()
    assert store.delete(runs[0].folder)  # gone already


def test_shrinking_goes_on_where_one_cannot_be_deleted(store: RunStore, runs: list[KeptRun], tmp_path: Path):
    away = tmp_path / "elsewhere"
    shutil.move(runs[0].folder.path, away)
    runs[0].folder.path.symlink_to(away)
    assert runs[0].id in ids(store.runs())
    assert ids(store.shrink(0)) == ids([runs[2], runs[3], runs[5]])
    assert len(list(away.iterdir())) == 4 and saved(go_on(store, config_of(0))).losses


def test_a_clock_that_was_set_back_changes_the_order_alone(store: RunStore, runs: list[KeptRun]):
    os.utime(runs[5].folder.state_file, (10, 10))  # the newest, written when the clock stood in 1970
    assert ids(store.shrink(total(store) - 1)) == ids([runs[5]])
    os.utime(runs[0].folder.state_file, (1e11, 1e11))
    assert ids(store.runs())[0] == runs[0].id


def test_files_that_come_and_go_do_not_hide_a_run(
    store: RunStore, runs: list[KeptRun], monkeypatch: pytest.MonkeyPatch
):
    rglob = Path.rglob

    def with_one_that_is_gone(folder: Path, pattern: str) -> Iterator[Path]:
        yield from rglob(folder, pattern)
        yield folder / f".{'ab' * 8}.tmp"

    before = store.runs()
    monkeypatch.setattr(Path, "rglob", with_one_that_is_gone)
    assert store.runs() == before


def test_the_newest_run_is_found_where_older_ones_were_deleted(store: RunStore):
    again = toy_config(steps=10, if_exists="retrain")
    runs = [go_on(store, again) for _ in range(4)]
    assert len(set(ids(runs))) == 4
    for gone in (1, 2, 0):
        store.delete(runs[gone].folder)
        assert go_on(store, toy_config(steps=10), 0).id == runs[3].id
    assert go_on(store, again).id not in ids(runs)


def test_a_lock_that_cannot_be_taken_is_a_sentence(store: RunStore, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with store.open("a" * 32, {}, False, print) as run:
        assert "lock could not be taken" in run.warnings[0] and not run.problem  # kept all the same
    with pytest.raises(OSError, match="lock could not be taken"):
        store.delete(run.folder)


@pytest.mark.parametrize("error", [TimeoutError, BrokenPipeError, KeyboardInterrupt])
def test_who_waits_can_give_up_with_any_error(store: RunStore, error: type[BaseException]):
    def give_up(sentence: str) -> None:
        raise error

    with store.open("a" * 32, {}, False, print), pytest.raises(error), store.open("a" * 32, {}, False, give_up):
        raise AssertionError("both have it")


CHILD = """
import sys, time
from pathlib import Path
from kept_runs import go_on
from toy import toy_config
from ti_engine.run import kept_run
from ti_engine.run.store import RunStore

kept_run.PAUSE = 0

def slowly(run, step):
    print(step, flush=True)
    time.sleep(float(sys.argv[2]))

go_on(RunStore(Path(sys.argv[1])), toy_config(), after=slowly)
"""


def training(store: RunStore, seconds_a_step: float) -> subprocess.Popen[str]:
    """A process that trains a run in the store and has made its fifth step."""
    folders = [Path(atomic.__file__).parents[2], Path(__file__).parents[1]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(store.root), str(seconds_a_step)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while process.stdout.readline().strip() != "5":
        assert process.poll() is None
    return process


def test_a_second_process_waits_for_the_first_and_gets_its_run(store: RunStore, tmp_path: Path):
    process, said, steps = training(store, 0.05), [], []
    run = go_on(store, toy_config(), after=lambda run, step: steps.append(step), waiting=said.append)
    assert process.wait(20) == 0
    assert said and all(s.startswith(f"Process {process.pid} on ") and s.endswith(" to end.") for s in said)
    assert steps == [30] and run.saved is not None and run.saved.finished
    assert same(saved(run), saved(go_on(RunStore(tmp_path / "whole"), toy_config())))


def test_a_second_process_goes_on_where_the_first_was_killed(store: RunStore, tmp_path: Path):
    process, said, steps = training(store, 0.5), [], []

    def say(sentence: str) -> None:
        said.append(sentence)
        os.kill(process.pid, signal.SIGKILL)

    run = go_on(store, toy_config(), after=lambda run, step: steps.append(step), waiting=say)
    process.wait(20)
    assert len(said) < 10 and steps == list(range(5, 31))
    assert same(saved(run), saved(go_on(RunStore(tmp_path / "whole"), toy_config())))


@pytest.mark.parametrize("owner", [None, "{", "[]", '{"pid": "x"}', '{"pid": 1e999, "machine": "m"}', "[" * 100_000])
def test_an_owner_that_cannot_be_read_is_another_process(store: RunStore, owner: str | None):
    said: list[str] = []

    def note(sentence: str) -> None:
        said.append(sentence)
        raise KeyboardInterrupt

    with store.open("a" * 32, {}, False, print):
        file = store.root / ".locks" / f"{'a' * 32}.json"
        file.unlink() if owner is None else file.write_text(owner)
        with pytest.raises(KeyboardInterrupt), store.open("a" * 32, {}, False, note):
            pass
    assert said == ["Another process trains this run now; waiting for it to end."]


def test_two_threads_have_a_run_one_after_the_other(store: RunStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lock, "_SECONDS_BETWEEN", 0.01)
    inside, most = [], []

    def have_it() -> None:
        for _ in range(20):
            with store.open("a" * 32, {}, False, lambda _: None):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=have_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80
