"""`textual-inversion pick`: any state of a run, or the mean of several, as a file that says which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import Output, refused, run
from kept_runs import saved_run

from ti_engine.files import load_embedding
from ti_engine.files.formats.metadata import training_record
from ti_engine.run.folder import SavedRun

RUN = "ab" * 16


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SavedRun:
    """A run of 12 steps in the working folder."""
    monkeypatch.chdir(tmp_path)
    return saved_run(RUN)


@pytest.mark.parametrize(("step", "state"), [("0", 0), ("7", 7), ("12", 12), ("-1", 12)])
def test_a_step_is_that_state(saved: SavedRun, step: str, state: int, capsys: Output) -> None:
    assert run("pick", "abab", "--step", step, "--output", "w.safetensors", "--json") == 0
    streams = capsys.readouterr()
    word = load_embedding("w.safetensors")
    assert torch.equal(word.vectors["clip_l"], saved.record.trajectory[state]["clip_l"])
    record = training_record(word.metadata)
    assert (record["run"], record["returned_steps"]) == (RUN, [state, state])
    (written,) = json.loads(streams.out)["words"]
    assert (written["run"], written["steps"]) == (RUN, [state, state])
    assert f"after step {state}" in streams.err


@pytest.mark.parametrize(("window", "steps"), [("4:6", (4, 6)), ("5:5", (5, 5)), ("-3:-1", (10, 12))])
def test_a_window_is_a_mean(saved: SavedRun, window: str, steps: tuple[int, int]) -> None:
    assert run("pick", "abab", "--average", window, "--output", "w.safetensors") == 0
    word = load_embedding("w.safetensors")
    states = [saved.record.trajectory[step]["clip_l"] for step in range(steps[0], steps[1] + 1)]
    assert torch.equal(word.vectors["clip_l"], torch.stack(states).mean(0))
    assert training_record(word.metadata)["returned_steps"] == list(steps)


def test_the_file_is_described_as_by_other_commands(saved: SavedRun) -> None:
    flags = ["--placeholder", "<pick>", "--title", "Sixth", "--for", "invokeai", "--dtype", "float16"]
    assert run("pick", RUN, "--step", "6", "--output", "w.safetensors", *flags) == 0
    word = load_embedding("w.safetensors")
    assert (word.placeholder, word.metadata["modelspec.title"]) == ("<pick>", "Sixth")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "required"),
        (["--step", "1", "--average", "1:2"], "not allowed"),
        (["--step", "13"], "go from 0 to 12"),
        (["--step", "x"], "invalid int value"),
        (["--average", "3"], "two steps with a colon"),
        (["--average", "a:b"], "two steps with a colon"),
        (["--average", "7:5"], "before its first step"),
        (["--step", "1", "--runs", "nowhere"], "There is no run"),
    ],
)
def test_bad_input_is_one_sentence(saved: SavedRun, flags: list[str], sentence: str, capsys: Output) -> None:
    assert sentence in refused(["pick", "abab", *flags, "--output", "w.safetensors"], capsys)


def test_a_file_that_is_there_stays(saved: SavedRun, capsys: Output) -> None:
    Path("w.safetensors").write_text("mine")
    assert "exists already" in refused(["pick", "abab", "--step", "1", "--output", "w.safetensors"], capsys)
    assert run("pick", "abab", "--step", "1", "--output", "w.safetensors", "--overwrite") == 0
