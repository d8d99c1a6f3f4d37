"""Reading and writing words, as several commands share it: names, outputs and text from strangers."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Output, rows, run
from safetensors.torch import save_file

from ti_engine.cli import main

pytestmark = pytest.mark.usefixtures("word_files")


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("red.png/w.safetensors", "because a part of its path is a file and not a folder"),
        ("red.png/new/w.safetensors", "because a part of its path is a file and not a folder"),
        ("folder.safetensors", "because a folder has that name"),
        ("new/" + 300 * "w" + ".safetensors", "because the name is too long"),
        ("new/" + 300 * "w" + "/w.safetensors", "because the name is too long"),
        ("a\0b.safetensors", "'a\\x00b.safetensors' could not be written, because its name holds a character"),
    ],
)
def test_an_output_that_cannot_be_written_is_told_before_the_model_is_opened(
    output: str, sentence: str, capsys: Output
) -> None:
    Path("folder.safetensors").mkdir()
    before = sorted(Path().rglob("*"))
    for command in (["train", "red.png"], ["merge", "--add", "cat"]):
        assert main([*command, "--model", "nowhere", "--output", output, "--overwrite"]) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert len(error.splitlines()) == 1 and "nowhere" not in error
    assert main(["generate", "S*", "--model", "nowhere", "--embedding", "w.pt", "--output", f"red.png/{output}"]) == 2
    assert "could not be written" in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == before


def test_a_family_settles_what_a_width_leaves_open(capsys: Output) -> None:
    save_file({"<word>": rows(1, width=4096), "<other>": rows(2, width=4096)}, "two.safetensors")
    save_file({"emb_params": rows(1)}, "one.safetensors")
    assert run("convert", "one.safetensors", "--family", "sd1", "--output", "new.safetensors") == 0
    assert capsys.readouterr().err == ""
    for command in (["convert", "one.safetensors"], ["extract", "two.safetensors", "--word", "<word>"]):
        assert run(*command, "--family", "sdxl", "--output", "never.safetensors") == 2
        assert "cannot be converted faithfully" in capsys.readouterr().err


def test_names_of_strangers_do_not_reach_the_terminal_as_they_are(capsys: Output) -> None:
    names = ["\x1b[2Ja", 900 * "b", "c"]
    save_file({f"bundle_emb.{name}.emb_params": rows(1) for name in names}, "many.safetensors")
    assert run("convert", "many.safetensors", "--output", "new.safetensors") == 2
    assert run("extract", "many.safetensors", "--word", "d", "--output", "new.safetensors") == 2
    assert run("extract", "many.safetensors", "--all", "--output", "all") == 0
    said = "".join(capsys.readouterr())
    assert said.count(r"'\x1b[2Ja'") == 3 and "\x1b" not in said
    assert said.count(60 * "b") >= 3 and 130 * "b" not in said
    Path("\x1b[2J.safetensors").touch()
    assert run("convert", "cat.safetensors", "--output", "\x1b[2J.safetensors") == 2
    assert r"\x1b[2J.safetensors exists already" in capsys.readouterr().err
