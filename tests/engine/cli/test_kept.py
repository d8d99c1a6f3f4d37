"""`textual-inversion train` and its run on disk: reused, gone on with, begun anew, or not to be had."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import QUICK, Output

from ti_engine.cli import main
from ti_engine.files import load_embedding
from ti_engine.files.formats.metadata import training_record
from ti_engine.run import kept_run
from ti_engine.run.folder import SavedRun
from ti_engine.run.lock import hold
from ti_engine.run.store import RunStore
from ti_engine.standalone import DiffusersBackend
from ti_engine.training import loop

pytestmark = pytest.mark.usefixtures("pictures_and_model")
RUNS = Path("textual_inversion")
ENDLESS = ["--schedule", "constant", "--no-early-stop"]  # steps do not shape the schedule
Train = Callable[..., dict[str, Any]]


@pytest.fixture
def train(capsys: Output) -> Train:
    """Trains on two pictures into a file of a name; returns the result, with what was said on stderr as `said`."""

    def run(output: str, *flags: str) -> dict[str, Any]:
        command = ["train", "a.png", "b.jpg", *QUICK, "--evaluate-every", "0", *flags]
        assert main([*command, "--output", output, "--json"]) == 0
        streams = capsys.readouterr()
        return json.loads(streams.out) | {"said": streams.err}

    return run


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was computed: "update" for each update, "pictures" where they were encoded."""
    done: list[str] = []
    compute, encode = loop.compute_gradient, DiffusersBackend.encode_pictures

    def update(*arguments: Any) -> float:
        done.append("update")
        return compute(*arguments)

    def pictures(*arguments: Any) -> Any:
        done.append("pictures")
        return encode(*arguments)

    monkeypatch.setattr(loop, "compute_gradient", update)
    monkeypatch.setattr(DiffusersBackend, "encode_pictures", pictures)
    return done


def read(root: Path, run: dict[str, Any]) -> SavedRun:
    saved = RunStore(root).folder(run["id"]).read()
    assert saved is not None
    return saved


def word(file: str) -> tuple[list[float], dict[str, Any]]:
    """The vectors, and the record of the training."""
    embedding = load_embedding(file)
    return embedding.vectors["clip_l"].flatten().tolist(), training_record(embedding.metadata)


def test_the_result_says_where_the_run_lies(train: Train) -> None:
    result = train("w.safetensors", "--placeholder", "Ł*")
    run = result["run"]
    assert (result["reused"], result["resumed_from"]) == (False, None)
    assert Path(run["folder"]) == RUNS / run["id"] and run["folder"] in result["said"]
    assert word("w.safetensors")[1]["run"] == run["id"]
    about = json.loads((RUNS / run["id"] / "config.json").read_text("utf-8"))
    assert (about["word"], about["pictures"], about["picture_names"]) == ("Ł*", 2, ["a.png", "b.jpg"])
    assert (about["model"], about["parent"], about["settings"]["steps"]) == ("demo", None, 2)
    assert read(RUNS, run).notes["sha256"] == result["model"]["sha256"]


def test_a_finished_run_is_not_trained_again(train: Train, work: list[str]) -> None:
    first = train("one.safetensors")
    assert work == ["pictures", "update", "update"]
    work.clear()
    again = train("two.safetensors")
    assert again["reused"] and "Not trained again" in again["said"] and work == []
    assert word("one.safetensors") == word("two.safetensors")
    assert (again["run"], again["returned_steps"]) == (first["run"], first["returned_steps"])
    assert again["evaluation_loss"] == first["evaluation_loss"]


def test_another_placeholder_is_the_same_run(train: Train, work: list[str]) -> None:
    train("one.safetensors")
    work.clear()
    assert train("two.safetensors", "--placeholder", "T*")["reused"] and work == []
    assert load_embedding("two.safetensors").placeholder == "T*"
    assert word("one.safetensors")[0] == word("two.safetensors")[0]


@pytest.mark.parametrize("flags", [["--seed", "1"], ["--precision", "bfloat16"], ["--steps", "3"]])
def test_what_changes_the_vectors_is_another_run(train: Train, flags: list[str]) -> None:
    first, second = train("one.safetensors"), train("two.safetensors", *flags)
    assert not second["reused"] and second["run"]["id"] != first["run"]["id"]


def test_retrain_trains_beside_the_old_run(train: Train) -> None:
    first = train("one.safetensors")
    second = train("two.safetensors", "--if-exists", "retrain")
    assert not second["reused"] and second["run"]["id"] != first["run"]["id"]
    assert read(RUNS, first["run"]).finished
    assert word("one.safetensors")[0] == word("two.safetensors")[0]


def test_more_steps_go_on_where_the_schedule_allows_it(train: Train, work: list[str]) -> None:
    first = train("one.safetensors", *ENDLESS)
    work.clear()
    more = train("two.safetensors", *ENDLESS, "--steps", "5")
    assert (more["resumed_from"], more["run"], work.count("update")) == (2, first["run"], 3)
    assert "from step 2 of 5" in more["said"]
    direct = train("direct.safetensors", *ENDLESS, "--steps", "5", "--runs", "other")
    assert word("two.safetensors") == word("direct.safetensors") and direct["resumed_from"] is None


def test_fewer_steps_are_in_the_trajectory(train: Train, work: list[str]) -> None:
    long = train("long.safetensors", *ENDLESS, "--steps", "6")
    work.clear()
    short = train("short.safetensors", *ENDLESS, "--steps", "3")
    assert "update" not in work and "Not trained again" in short["said"]
    assert (short["reused"], short["steps"], short["run"]) == (True, 3, long["run"])
    train("direct.safetensors", *ENDLESS, "--steps", "3", "--runs", "other")
    assert word("short.safetensors") == word("direct.safetensors")
    kept = read(RUNS, long["run"])
    assert (kept.step, kept.finished) == (6, True)
    work.clear()
    assert train("again.safetensors", *ENDLESS, "--steps", "6")["reused"] and work == []


def test_a_damaged_run_stays_and_a_new_one_begins(train: Train) -> None:
    first = train("one.safetensors")
    state = RUNS / first["run"]["id"] / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    left = state.read_bytes()
    second = train("two.safetensors")
    assert second["run"]["id"] != first["run"]["id"] and not second["reused"]
    assert f"{first['run']['id']} cannot be read" in second["said"] and state.read_bytes() == left
    assert train("three.safetensors")["run"] == second["run"]


def test_without_a_folder_for_runs_training_goes_on(train: Train) -> None:
    Path("taken").write_text("mine")
    result = train("w.safetensors", "--runs", "taken")
    assert result["run"] is None and not result["reused"]
    assert "cannot be kept on disk" in result["said"] and "is not on disk" in result["said"]
    assert Path("taken").read_text() == "mine" and load_embedding("w.safetensors").num_vectors == 1


def test_a_disk_that_refuses_in_mid_run_is_told_at_the_end(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    write = kept_run.write_atomically

    def full(path: Path, *arguments: Any, **more: Any) -> None:
        if path.is_file():  # the first state fits, and none after it
            raise OSError(f"{path.name} could not be written, because the disk is full.")
        write(path, *arguments, **more)

    monkeypatch.setattr(kept_run, "write_atomically", full)
    result = train("w.safetensors", "--steps", "4")
    assert "the disk is full" in result["said"].splitlines()[-1] and "not on disk after step" in result["said"]
    assert result["steps"] == 4 and load_embedding("w.safetensors").num_vectors == 1
    on_disk = RunStore(RUNS).runs()
    assert len(on_disk) == 1 and not on_disk[0].facts["finished"]


def test_spaces_and_foreign_letters_in_paths(train: Train) -> None:
    runs = "mes essais/été 语"
    result = train("mon œuvre ü.safetensors", "--runs", runs)
    assert Path(result["run"]["folder"]).is_dir() and Path("mon œuvre ü.safetensors").is_file()
    assert train("2.safetensors", "--runs", runs)["reused"]


def test_old_runs_make_room_and_are_named(train: Train) -> None:
    first = train("one.safetensors")
    second = train("two.safetensors", "--seed", "1", "--runs-gb", "0")
    assert f"Deleted the run {first['run']['id']}" in second["said"]
    assert [run.folder.id for run in RunStore(RUNS).runs()] == [second["run"]["id"]]


def test_a_run_starts_from_the_result_of_another(train: Train, capsys: Output) -> None:
    parent = train("one.safetensors", "--num-vectors", "2")
    child = train("two.safetensors", "--init-from", parent["run"]["id"][:8])
    assert child["run"]["id"] != parent["run"]["id"] and child["settings"]["num_vectors"] == 2
    begin = read(RUNS, child["run"]).record.trajectory[0]["clip_l"]
    assert begin.flatten().tolist() == word("one.safetensors")[0]
    about = json.loads((RUNS / child["run"]["id"] / "config.json").read_text("utf-8"))
    assert about["parent"] == parent["run"]["id"]
    source = {"run": parent["run"]["id"], "steps": "{} to {}".format(*parent["returned_steps"])}
    assert word("two.safetensors")[1]["started_from"] == child["started_from"] == source
    assert main(["runs", "export", child["run"]["id"], "--output", "exported.safetensors"]) == 0
    capsys.readouterr()
    assert word("exported.safetensors") == word("two.safetensors")
    again = train("three.safetensors", "--init-from", "one.safetensors")  # the same vectors, by the file
    assert again["reused"] and again["run"] == child["run"]


def test_a_run_to_start_from_that_is_not_there(capsys: Output) -> None:
    assert main(["train", "a.png", *QUICK, "--init-from", "abcd1234"]) == 2
    assert "There is no run 'abcd1234'" in capsys.readouterr().err


def test_another_process_that_trains_it_is_waited_for(train: Train) -> None:
    run = train("one.safetensors")["run"]
    held, free = threading.Event(), threading.Event()

    def other() -> None:
        with hold(RUNS / ".locks" / f"{run['id']}.lock", print):
            held.set()
            free.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    held.wait(60)
    threading.Timer(1.5, free.set).start()
    result = train("two.safetensors")
    thread.join()
    assert result["reused"] and result["said"].count("waiting for it to end") == 1


def test_it_goes_on_after_an_error_in_mid_run(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, left = loop.compute_gradient, [3]

    def failing(*arguments: Any) -> float:
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("the device was lost")
        return compute(*arguments)

    monkeypatch.setattr(importlib.import_module("ti_engine.training.loop"), "compute_gradient", failing)
    with pytest.raises(RuntimeError):
        train("w.safetensors", "--steps", "5")
    monkeypatch.setattr(loop, "compute_gradient", compute)
    assert train("w.safetensors", "--steps", "5")["resumed_from"] == 3
    train("whole.safetensors", "--steps", "5", "--runs", "other")
    assert word("w.safetensors") == word("whole.safetensors")
