"""`textual-inversion runs`: the list, one run, its word as a file, and what is deleted and what is not."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import Output, refused, run
from toy import ToyBackend, noisy_set, toy_config

from ti_engine import CaptionSource, start_run, train
from ti_engine.cli.run_text import age_text, size_text
from ti_engine.data.captions import OBJECT_TEMPLATES
from ti_engine.files import load_embedding
from ti_engine.files.formats.metadata import training_record
from ti_engine.run.about import describe_run
from ti_engine.run.folder import SavedRun
from ti_engine.run.store import RunStore

STORE = RunStore(Path("textual_inversion"))
FINISHED, UNFINISHED, OTHER = "ab" * 16, "abcd" + "0" * 28, "ee" * 16


def toy_run(
    run_id: str, word: str = "S*", until: int | None = None, days: float = 0, store: RunStore = STORE
) -> SavedRun:
    """A run of 12 steps, or its first ones, written some days ago."""
    backend, config = ToyBackend(widths={"clip_l": 768}), toy_config(steps=12, num_vectors=2, placeholder=word)
    dataset = replace(noisy_set(backend), captions=CaptionSource(word, OBJECT_TEMPLATES))
    about = describe_run(config, "toy", [f"a {word}", None], 2) | {"picture_names": ["a.png", "b.png"]}
    with store.open(run_id, about, False, print) as kept:
        state = start_run(backend, config)
        for step in train(backend, dataset, config, state):
            kept.keep(step)
            if step.index == until:
                break
        else:
            kept.finish(state, config)
    written = time.time() - days * 86400
    os.utime(kept.folder.state_file, (written, written))
    saved = kept.folder.read()
    assert saved is not None
    return saved


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, SavedRun]:
    monkeypatch.chdir(tmp_path)
    return {
        FINISHED: toy_run(FINISHED, days=40),
        UNFINISHED: toy_run(UNFINISHED, "猫*", until=5, days=50),
        OTHER: toy_run(OTHER, days=0.1),
    }


def ids() -> set[str]:
    return set(STORE.ids())


def test_the_list_has_a_line_for_each_the_newest_first(runs: dict[str, SavedRun], capsys: Output) -> None:
    assert run("runs") == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.split() == ["ID", "WORD", "PICTURES", "STEPS", "STATE", "SIZE", "AGE"]
    assert [line.split()[0] for line in lines] == ["eeeeeeee", "abababab", "abcd0000"]
    assert "12 of 12" in lines[1] and "finished" in lines[1] and lines[1].endswith("40 days")
    assert "5 of 12" in lines[2] and "unfinished" in lines[2] and "猫*" in lines[2]
    assert max(map(len, lines)) < 80
    columns = {line.index("finished") + 2 * ("un" not in line) for line in lines[:2]}
    assert len(columns) == 1


def test_ids_are_as_long_as_they_must_be(runs: dict[str, SavedRun], capsys: Output) -> None:
    toy_run("ab" * 15 + "ff", until=1)
    assert run("runs") == 0
    shown = {line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]}
    assert {"ab" * 15 + "f", "ab" * 15 + "a"} <= shown
    for one in shown:
        assert run("runs", "show", one) == 0


def test_the_list_for_programs(runs: dict[str, SavedRun], capsys: Output) -> None:
    assert run("runs", "--json") == 0
    found = {one["id"]: one for one in json.loads(capsys.readouterr().out)["runs"]}
    assert set(found) == set(runs)
    one = found[UNFINISHED]
    assert (one["word"], one["pictures"], one["steps"], one["asked_steps"]) == ("猫*", 2, 5, 12)
    assert not one["finished"] and one["bytes"] > 0 and one["model"] == "toy"


@pytest.mark.parametrize("before", [True, False])
def test_the_folder_may_be_named_before_the_action_or_after_it(
    runs: dict[str, SavedRun], before: bool, capsys: Output
) -> None:
    toy_run("12" * 16, "X*", store=RunStore(Path("my runs")))
    flag = ["--runs", "my runs"]
    assert run("runs", *flag) == 0
    assert "12121212" in capsys.readouterr().out
    assert run("runs", *(flag if before else []), "show", "1", *([] if before else flag)) == 0
    assert "X*" in capsys.readouterr().out


def test_no_runs_and_runs_that_cannot_be_read(runs: dict[str, SavedRun], capsys: Output) -> None:
    assert run("runs", "--runs", "nowhere") == 0
    assert "There is no run in nowhere" in capsys.readouterr().err
    STORE.folder(OTHER).state_file.write_bytes(b"broken")
    (STORE.root / "notes").mkdir()
    assert run("runs") == 0
    streams = capsys.readouterr()
    assert OTHER in streams.err and "eeeeeeee" not in streams.out and "notes" not in streams.out + streams.err
    assert f"The run {OTHER} cannot be read" in refused(["runs", "show", "ee"], capsys)
    assert run("runs", "delete", "ee") == 0 and OTHER not in ids()


def test_show_tells_what_is_known_of_a_run(runs: dict[str, SavedRun], capsys: Output) -> None:
    assert run("runs", "show", "abab") == 0
    text = capsys.readouterr().out
    for part in (FINISHED, "12 of 12 steps", "num_vectors 2", "a.png, b.png", "a S*", " before, ", " after"):
        assert part in text
    assert run("runs", "show", "abab", "--json") == 0
    details = json.loads(capsys.readouterr().out)
    record = runs[FINISHED].record
    assert details["evaluation_loss"]["after"] == record.result_loss
    assert details["returned_steps"] == [record.returned[0], record.returned[-1]]
    assert details["settings"]["num_vectors"] == 2 and details["captions"] == ["a S*", None]


def test_export_writes_what_the_run_returned(runs: dict[str, SavedRun], capsys: Output) -> None:
    assert run("runs", "export", "abab", "--output", "mon mot é.safetensors") == 0
    exported = load_embedding("mon mot é.safetensors")
    assert torch.equal(exported.vectors["clip_l"], runs[FINISHED].record.embedding().vectors["clip_l"])
    assert training_record(exported.metadata)["run"] == FINISHED
    assert "for SD1: mon mot" in capsys.readouterr().out
    assert "exists already" in refused(["runs", "export", "abab", "--output", "mon mot é.safetensors"], capsys)
    assert run("runs", "export", "ee", "--output", "mon mot é.safetensors", "--overwrite", "--json") == 0
    (written,) = json.loads(capsys.readouterr().out)["words"]
    assert written["run"] == OTHER


def test_a_run_without_a_step_has_no_word(runs: dict[str, SavedRun], capsys: Output) -> None:
    toy_run("11" * 16, until=0)
    assert "no step yet" in refused(["runs", "export", "11", "--output", "w.safetensors"], capsys)


def test_delete_takes_several_and_none_if_one_is_wrong(runs: dict[str, SavedRun], capsys: Output) -> None:
    assert "There is no run 'ff'" in refused(["runs", "delete", "abab", "ff"], capsys)
    assert "write more of the id" in refused(["runs", "delete", "ab"], capsys)
    assert run("runs", "delete", "abab", FINISHED, "ee") == 0
    assert capsys.readouterr().out.count("Deleted the run") == 2
    assert ids() == {UNFINISHED}


def test_a_run_that_is_trained_now_is_not_deleted(runs: dict[str, SavedRun], capsys: Output) -> None:
    with STORE.open(FINISHED, {}, False, print):
        assert run("runs", "delete", "abab", "ee") == 2
        assert run("runs", "prune", "--older-than", "1d", "--json") == 2
    streams = capsys.readouterr()
    assert "trained by another process" in streams.err
    assert ids() == {FINISHED, UNFINISHED}


def test_prune_spares_the_young_and_the_unfinished(runs: dict[str, SavedRun], capsys: Output) -> None:
    assert run("runs", "prune", "--older-than", "45d") == 0
    streams = capsys.readouterr()
    assert streams.out == "" and "No finished run" in streams.err and "1 unfinished run" in streams.err
    assert ids() == set(runs)
    assert run("runs", "prune", "--older-than", "5w") == 0
    assert f"Deleted the run {FINISHED} (S*, 12 of 12 steps, " in capsys.readouterr().out
    assert ids() == {UNFINISHED, OTHER}
    assert run("runs", "prune", "--older-than", "1h", "--unfinished", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["deleted"]) == {UNFINISHED, OTHER}
    assert not ids()


@pytest.mark.parametrize("age", ["30", "30x", "-1d", "d", "1 d", "nan d"])
def test_an_age_that_is_none_is_refused(runs: dict[str, SavedRun], age: str, capsys: Output) -> None:
    assert "such as 30d" in refused(["runs", "prune", f"--older-than={age}"], capsys)
    assert ids() == set(runs)


@pytest.mark.parametrize("arguments", [["show"], ["delete"], ["prune"], ["export", "ab"], ["rename", "ab"]])
def test_incomplete_commands_are_refused(runs: dict[str, SavedRun], arguments: list[str], capsys: Output) -> None:
    refused(["runs", *arguments], capsys)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1200, "1.2 kB"), (17_300, "17 kB"), (999_600, "1.0 MB"), (2.5e9, "2.5 GB")],
)
def test_sizes_have_few_letters(size: float, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "seconds"), (59, "seconds"), (60, "1 minute"), (7300, "2 hours"), (9e5, "10 days")]
)
def test_ages_have_few_letters(seconds: float, text: str) -> None:
    assert age_text(seconds) == text
