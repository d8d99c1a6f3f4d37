"""What a disk or a person does to a run in the middle of training costs nothing that was there before."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kept_runs import differences, go_on, on_disk, wide
from toy import toy_config

from ti_engine.files import atomic
from ti_engine.run import kept_run
from ti_engine.run.kept_run import KeptRun
from ti_engine.run.store import RunStore

CONFIG = toy_config(num_vectors=8, evaluate_every=7)
GREY = torch.full((3, 8, 8), 0.5)


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch):
    """Written after every step."""
    monkeypatch.setattr(kept_run, "PAUSE", 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> KeptRun:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as every test of this folder: another number gives other bits
    try:
        return trained(tmp_path_factory.mktemp("whole"))
    finally:
        torch.set_num_threads(threads)


def trained(root: Path, until: int | None = None, at: int = -1, happens: Callable[[KeptRun], object] = id) -> KeptRun:
    """A run with previews of steps 5 and 25, in which something happens after a step."""

    def after(run: KeptRun, step: int) -> None:
        if step in (5, 25):
            run.keep_preview(step, GREY)
        if step == at:
            happens(run)

    return go_on(RunStore(root), CONFIG, until, wide(), after)


def refuse(monkeypatch: pytest.MonkeyPatch, reason: int, part: int = 0) -> None:
    """Every write stops after `part` bytes."""

    def write(path: Path, data: bytes, synced: bool = True) -> None:
        with path.open("ab") as file:
            file.write(data[:part])
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(atomic, "_write", write)
    monkeypatch.setattr(kept_run, "append", write)


@pytest.mark.parametrize("at", [0, 12, 29])
def test_a_full_disk_costs_nothing_once_there_is_space_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_step: None, whole: KeptRun, at: int
):
    run = trained(tmp_path, at=at, happens=lambda run: refuse(monkeypatch, errno.ENOSPC, part=10))  # to its end
    monkeypatch.undo()
    assert f"after step {at}:" in run.problem and "the disk is full" in run.problem
    assert on_disk(run).step == at and not on_disk(run).finished
    assert not differences(trained(tmp_path).folder, whole.folder)


def test_a_disk_that_is_full_for_a_while_is_caught_up_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_step: None, whole: KeptRun
):
    problems: list[str] = []

    def note(run: KeptRun, step: int) -> None:
        problems.append(run.problem)
        if step in (5, 25):
            run.keep_preview(step, GREY)
        if step == 4:
            refuse(monkeypatch, errno.ENOSPC, part=100)
        if step == 24:
            monkeypatch.undo()
            monkeypatch.setattr(kept_run, "PAUSE", 0)

    run = go_on(RunStore(tmp_path), CONFIG, None, wide(), note)
    assert [bool(problem) for problem in problems] == [4 < step <= 24 for step in range(31)]
    assert not run.problem and not differences(run.folder, whole.folder)


def test_what_could_not_be_written_at_the_end_is_tried_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: KeptRun
):
    seal = kept_run.seal
    failures = [OSError("the disk is full")]

    def fails_once(tensors: dict, facts: dict) -> bytes:
        if facts.get("finished") and failures:
            raise failures.pop()
        return seal(tensors, facts)

    monkeypatch.setattr(kept_run, "seal", fails_once)
    assert not differences(trained(tmp_path).folder, whole.folder) and not failures


def test_a_real_limit_of_the_system_is_a_sentence_and_nothing_more(tmp_path: Path):
    """In a process of its own, whose files may have no more than 4096 bytes from step 3 on."""
    pytest.importorskip("resource")
    code = """
import resource, sys
from pathlib import Path
from kept_runs import go_on, on_disk
from toy import toy_config
from ti_engine.run import kept_run
from ti_engine.run.store import RunStore

kept_run.PAUSE = 0
limit = lambda run, step: step == 3 and resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
run = go_on(RunStore(Path(sys.argv[1])), toy_config(), after=limit)
print(on_disk(run).step, run.problem)
"""
    folders = [Path(atomic.__file__).parents[2], Path(__file__).parents[1]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.startswith("3 The run is not on disk after step 3: state.safetensors could not be written, because")
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_file_that_another_program_holds_does_not_keep_the_state_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_step: None, whole: KeptRun
):
    """As on Windows, where a log or a picture that is open elsewhere cannot be written."""
    replace = os.replace

    def held(source: Path, target: Path) -> None:
        if target.suffix in (".json", ".jsonl", ".png", ".txt"):
            raise PermissionError(errno.EACCES, "held")
        replace(source, target)

    def let_go(run: KeptRun) -> None:
        assert not run.problem and on_disk(run).step == 27
        assert {file.name for file in run.folder.path.iterdir() if file.is_file()} == {"state.safetensors"}
        monkeypatch.setattr(os, "replace", replace)

    monkeypatch.setattr(os, "replace", held)
    assert not differences(trained(tmp_path, at=27, happens=let_go).folder, whole.folder)


@pytest.mark.parametrize("reason", [errno.EROFS, errno.EACCES])
def test_a_folder_that_may_not_be_written_to_leaves_the_run_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: KeptRun, reason: int
):
    refuse(monkeypatch, reason)
    run = trained(tmp_path)
    assert "could not be written, because" in run.problem and not list(run.folder.path.rglob("*.*"))
    monkeypatch.undo()
    assert not differences(trained(tmp_path).folder, whole.folder)


@pytest.mark.parametrize("place", ["runs", "run"])
def test_a_file_in_the_place_of_a_folder_leaves_the_run_in_memory(tmp_path: Path, whole: KeptRun, place: str):
    root = tmp_path / "runs"
    file = root if place == "runs" else root / whole.id
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    run = trained(root)
    assert run.problem and file.read_text() == "mine"


def test_a_finished_run_is_found_where_nothing_may_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trained(tmp_path)
    refuse(monkeypatch, errno.EROFS)
    with RunStore(tmp_path).open(next(tmp_path.glob("[0-9a-f]*")).name, {}, False, print) as run:
        assert run.saved is not None and run.saved.finished and "read-only" in run.problem


def test_a_folder_that_is_deleted_in_mid_run_is_written_anew(tmp_path: Path, every_step: None, whole: KeptRun):
    run = trained(tmp_path, at=27, happens=lambda run: shutil.rmtree(run.folder.path))
    assert not differences(run.folder, whole.folder)


@pytest.mark.parametrize("name", ["trajectory", "state.safetensors", "log.jsonl", "config.json", "README.txt"])
def test_a_part_that_is_deleted_in_mid_run_is_written_anew(tmp_path: Path, every_step: None, whole: KeptRun, name: str):
    def delete(run: KeptRun) -> None:
        path = run.folder.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    trained(tmp_path, 24)
    run = trained(tmp_path, at=27, happens=delete)
    missing = ["files"] if name == "README.txt" else []  # comes with the next part of the run
    assert differences(run.folder, whole.folder) == missing


def test_the_clock_may_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: KeptRun):
    now = time.time()
    trained(tmp_path, 12)
    monkeypatch.setattr(time, "time", lambda: now - 1e9)
    os.utime(next(tmp_path.glob("[0-9a-f]*")) / "state.safetensors", (now + 1e9, now + 1e9))
    run = trained(tmp_path)
    assert not differences(run.folder, whole.folder) and 0 < on_disk(run).seconds < 1000


@pytest.mark.parametrize("name", ["with space", "ünï-сло́во-単語", "a" * 200, "100% {} 'quoted' $HOME"])
def test_a_path_may_have_any_characters(tmp_path: Path, whole: KeptRun, name: str):
    trained(tmp_path / name / "runs", 12)
    run = trained(tmp_path / name / "runs")
    assert not differences(run.folder, whole.folder)
    assert [summary.folder.id for summary in RunStore(tmp_path / name / "runs").runs()] == [run.id]


def test_a_path_that_the_system_does_not_allow_leaves_the_run_in_memory(tmp_path: Path):
    run = trained(tmp_path / ("a" * 300))
    assert "the name is too long" in run.problem and run.previews.keys() == {5, 25}
    assert RunStore(tmp_path / ("a" * 300)).runs() == []


def test_the_output_folder_may_be_on_another_device_than_that_of_temporary_files(whole: KeptRun):
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == Path(whole.folder.path).stat().st_dev:
        pytest.skip("there is no second device")
    root = memory / f"runs-{os.getpid()}"
    try:
        trained(root, 12)
        assert not differences(trained(root).folder, whole.folder)
    finally:
        shutil.rmtree(root)
