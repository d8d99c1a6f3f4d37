"""Ctrl-C while a word is learned: once it ends after the step and goes on later, twice it ends at once."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import QUICK, Output

from ti_engine import train as train_loop
from ti_engine.cli import main
from ti_engine.files import load_embedding
from ti_engine.files.formats.metadata import training_record
from ti_engine.run.folder import SavedRun
from ti_engine.run.store import RunStore

pytestmark = pytest.mark.usefixtures("pictures_and_model", "interruptible")
ROOT = Path(__file__).parents[3]
TRAIN = ["train", "a.png", "b.jpg", *QUICK, "--evaluate-every", "0", "--steps", "6", "--output", "w.safetensors"]


@pytest.fixture
def press(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Step -> how often Ctrl-C is pressed while it is computed."""
    times: dict[int, int] = {}

    def interrupted(*arguments: Any) -> Iterator[Any]:
        for step in train_loop(*arguments):
            for _ in range(times.pop(step.index, 0)):
                signal.raise_signal(signal.SIGINT)
            yield step

    monkeypatch.setattr(importlib.import_module("ti_engine.cli.learning"), "train", interrupted)
    return times


def only_run(root: str = "textual_inversion") -> SavedRun:
    (found,) = RunStore(Path(root)).runs()
    saved = found.folder.read()
    assert saved is not None
    return saved


def test_it_ends_after_the_step_with_the_chosen_vectors(press: dict[int, int], capsys: Output) -> None:
    press[3] = 1
    assert main([*TRAIN, "--json"]) == 130
    streams = capsys.readouterr()
    result = json.loads(streams.out)
    assert (result["steps"], result["interrupted"], result["reused"]) == (3, True, False)
    assert "Stopping after this step" not in streams.out
    assert "step 3 of 6" in streams.err and "the same command goes on from there" in streams.err
    saved = only_run()
    assert (saved.step, saved.finished) == (3, False)
    assert saved.record.result_loss is not None  # both candidates were compared
    word = load_embedding("w.safetensors")
    assert word.vectors["clip_l"].equal(saved.record.embedding().vectors["clip_l"])
    assert training_record(word.metadata)["stopped"] == "Stopped by hand at step 3 of 6."


def test_the_same_command_goes_on_and_gives_the_unbroken_file(press: dict[int, int], capsys: Output) -> None:
    assert main([*TRAIN[:-1], "whole.safetensors", "--runs", "whole"]) == 0
    for step in (2, 5):
        press[step] = 1
        assert main(TRAIN) == 130
    capsys.readouterr()
    assert main([*TRAIN, "--json"]) == 0
    streams = capsys.readouterr()
    result = json.loads(streams.out)
    assert (result["resumed_from"], result["steps"], result["interrupted"]) == (5, 6, False)
    assert "goes on from step 5 of 6" in streams.err
    assert without_date("w.safetensors") == without_date("whole.safetensors")
    assert only_run().finished


def test_twice_ends_at_once_and_what_is_on_disk_stays(press: dict[int, int], capsys: Output) -> None:
    press[4] = 2
    assert main(TRAIN) == 130
    error = capsys.readouterr().err
    assert "up to step 3 of 6" in error and "goes on" in error and "Traceback" not in error
    assert not Path("w.safetensors").exists()
    assert (only_run().step, only_run().finished) == (3, False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert main(TRAIN) == 0
    assert main([*TRAIN[:-1], "whole.safetensors", "--runs", "whole"]) == 0
    assert without_date("w.safetensors") == without_date("whole.safetensors")


def test_before_the_first_step_there_is_no_word(press: dict[int, int], capsys: Output) -> None:
    press[0] = 1
    assert main(TRAIN) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not Path("w.safetensors").exists()


def test_in_the_last_step_it_changes_nothing(press: dict[int, int]) -> None:
    press[6] = 1
    assert main(TRAIN) == 0
    assert only_run().finished


def test_a_retrained_run_goes_on_without_that_flag(press: dict[int, int], capsys: Output) -> None:
    assert main(TRAIN) == 0
    press[2] = 1
    command = [*TRAIN[:-1], "again.safetensors"]
    assert main([*command, "--if-exists", "retrain"]) == 130
    assert "without --if-exists retrain goes on" in capsys.readouterr().err
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resumed_from"] == 2


def test_only_the_file_of_the_run_that_goes_on_is_replaced(press: dict[int, int], capsys: Output) -> None:
    press[3] = 1
    assert main(TRAIN) == 130
    stopped = Path("w.safetensors").read_bytes()
    assert main([*TRAIN, "--seed", "1"]) == 2  # another run
    assert "exists already" in capsys.readouterr().err
    assert main([*TRAIN, "--runs", "elsewhere"]) == 2  # where the run is not there to go on
    assert "exists already" in capsys.readouterr().err
    assert Path("w.safetensors").read_bytes() == stopped
    assert main(TRAIN) == 0
    assert main(TRAIN) == 2  # the finished word, as ever
    assert "exists already" in capsys.readouterr().err


def test_a_word_that_was_picked_is_not_replaced(press: dict[int, int], capsys: Output) -> None:
    press[3] = 1
    assert main(TRAIN) == 130
    pick = ["pick", only_run().folder.id, "--step", "2", "--output", "w.safetensors"]
    assert main([*pick, "--overwrite"]) == 0
    assert main(TRAIN) == 2
    assert "exists already" in capsys.readouterr().err


def without_date(file: str) -> bytes:
    """The bytes of an embedding file, but for the date in it."""
    date = load_embedding(file).metadata["modelspec.date"]
    return Path(file).read_bytes().replace(date.encode(), b"")


def test_a_real_ctrl_c_in_a_process_of_its_own(tmp_path: Path) -> None:
    picture = ROOT / "ti_engine" / "demo" / "pictures" / "heart-1.png"
    command = [sys.executable, "-m", "ti_engine", "train", str(picture), "--model", "demo", "--quiet"]
    command += ["--steps", "5000", "--batch-size", "1", "--resolution", "64", "--evaluate-every", "0"]
    command += ["--no-early-stop"]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while not any(log.stat().st_size for log in tmp_path.glob("textual_inversion/*/log.jsonl")):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130, error
    assert "Stopping after this step" in error and "goes on from there" in error and "Traceback" not in error
    assert out.startswith("S* learned in ")
    saved = only_run(str(tmp_path / "textual_inversion"))
    assert 0 < saved.step < 5000 and not saved.finished
    assert load_embedding(tmp_path / "word.safetensors").num_vectors == 1
