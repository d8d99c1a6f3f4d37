"""`textual-inversion dial`: a file or a run at a position between its class word and its full likeness."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import Output, refused, rows, run
from kept_runs import saved_run

from ti_engine import TokenEmbedding
from ti_engine.demo.load import load_demo
from ti_engine.files import load_embedding, save_embedding
from ti_engine.run.folder import SavedRun
from ti_engine.run.pick import pick_word

RUN = "ab" * 16
TO_HEART = ["--class-word", "heart", "--model", "demo", "--output", "w.safetensors"]


@pytest.fixture
def word(pictures_and_model: None) -> TokenEmbedding:
    """cat.safetensors in the working folder, for the demo model."""
    word = TokenEmbedding({"clip_l": rows(1, 1, 128)}, "<cat>")
    save_embedding(word, "cat.safetensors")
    return word


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SavedRun:
    """A run of 12 steps in the working folder."""
    monkeypatch.chdir(tmp_path)
    return saved_run(RUN, initial_words="ball", evaluate_every=2)


def test_the_ends_of_a_file_are_the_class_word_and_the_file(word: TokenEmbedding, capsys: Output) -> None:
    heart = load_demo().word_vectors("heart")["clip_l"]
    for position, wanted in (("0", heart), ("1", word.vectors["clip_l"])):
        assert run("dial", "cat.safetensors", "--to", position, *TO_HEART, "--overwrite") == 0
        assert torch.equal(load_embedding("w.safetensors").vectors["clip_l"], wanted)
    assert load_embedding("w.safetensors").placeholder == "<cat>"


def test_it_says_what_was_moved_how_far_and_what_to_write(word: TokenEmbedding, capsys: Output) -> None:
    assert run("dial", "cat.safetensors", "--to", "0.5", *TO_HEART, "--placeholder", "pet", "--json") == 0
    streams = capsys.readouterr()
    (written,) = json.loads(streams.out)["words"]
    now, whole = written["degrees"]["clip_l"]
    assert now == pytest.approx(whole / 2, abs=0.01)
    assert (written["path"], written["position"], written["looked_at"]) == ("direction", 0.5, 0)
    assert written["prompts"] == ["pet", "pet heart"]
    assert 'from "heart" (0)' in streams.err and "Not calibrated" in streams.err
    assert load_embedding("w.safetensors").metadata["modelspec.merged_from"] == "heart (0.5), <cat> (0.5)"


@pytest.mark.parametrize("name", [RUN[:6], f"textual_inversion/{RUN}"])
def test_a_run_goes_back_through_its_states(saved: SavedRun, name: str, capsys: Output) -> None:
    for position, wanted in (("0", saved.record.trajectory[0]), ("1", saved.record.embedding().vectors)):
        assert run("dial", name, "--to", position, "--output", "w.safetensors", "--overwrite", "--json") == 0
        assert torch.equal(load_embedding("w.safetensors").vectors["clip_l"], wanted["clip_l"])
    (written,) = json.loads(capsys.readouterr().out.splitlines()[-1])["words"]
    assert (written["path"], written["class_word"]) == ("trajectory", "ball") and written["looked_at"]


def test_a_file_that_is_there_stays(word: TokenEmbedding, capsys: Output) -> None:
    arguments = ["dial", "cat.safetensors", "--to", "0.5", *TO_HEART[:-1], "cat.safetensors"]
    assert "exists already" in refused(arguments, capsys)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["cat.safetensors", "--to", "2"], "from 0 (the class word) to 1"),
        (["cat.safetensors", "--to", "x"], "invalid float value"),
        (["cat.safetensors", "--to", "0.5"], "give the class word"),
        (["cat.safetensors", "--to", "0.5", "--class-word", "heart"], "name it with --model"),
        (["cat.safetensors", "--to", "0.5", "--class-word", "qqq", "--model", "demo"], "does not know the word 'qqq'"),
        (["cat.safetensors", "--to", "0.5", "--path", "trajectory"], "name the run in place of cat.safetensors"),
        (["nowhere.safetensors", "--to", "0.5"], "nowhere.safetensors"),
        (["abab", "--to", "0.5"], "There is no run 'abab'"),
        (["folder", "--to", "0.5"], "is not the folder of a run"),
    ],
)
def test_bad_input_is_one_sentence(word: TokenEmbedding, arguments: list[str], sentence: str, capsys: Output) -> None:
    Path("folder").mkdir()
    assert sentence in refused(["dial", *arguments, "--output", "w.safetensors"], capsys)


def test_a_model_is_no_way_of_a_run_without_the_direction(saved: SavedRun, capsys: Output) -> None:
    arguments = ["dial", RUN, "--to", "0.5", "--class-word", "heart", "--model", "demo", "--output", "w.safetensors"]
    assert "leave it out, or add --path direction" in refused(arguments, capsys)


def test_a_file_of_a_run_says_its_class_word(saved: SavedRun, capsys: Output) -> None:
    save_embedding(pick_word(saved, None), "ball.safetensors")
    assert "To look up 'ball'" in refused(
        ["dial", "ball.safetensors", "--to", "0.5", "--output", "w.safetensors"], capsys
    )
