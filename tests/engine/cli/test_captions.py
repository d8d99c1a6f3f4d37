"""The captions of `textual-inversion train`: beside the pictures and in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import QUICK, Output, refused
from PIL import Image

from ti_engine.cli import main

pytestmark = pytest.mark.usefixtures("pictures_and_model")


def test_captions_beside_pictures_and_in_a_file(capsys: Output) -> None:
    Path("a.txt").write_text("a red S*")
    assert main(["train", ".", *QUICK, "--what", "custom", "--templates", "my {}"]) == 0
    Path("lines").write_text("a red S*\n")
    assert main(["train", "a.png", "b.jpg", *QUICK, "--captions", "lines", "--overwrite"]) == 2
    assert "1 captions for 2 pictures" in capsys.readouterr().err
    Path("lines").write_text("a red S*\na blue thing\n")
    assert main(["train", "a.png", "b.jpg", *QUICK, "--captions", "lines", "--overwrite"]) == 2
    assert "does not contain 'S*'" in capsys.readouterr().err


def test_a_folder_as_people_have_it(capsys: Output) -> None:
    """With numbers, a capital ending, hidden and foreign files, and captions of several kinds."""
    folder = Path("set")
    folder.mkdir()
    for number in (1, 2, 10):
        Image.effect_noise((64, 64), 30 + number).convert("RGB").save(folder / f"{number}.PNG")
    (folder / "._1.PNG").write_bytes(b"macOS")
    (folder / "broken.webp").write_bytes(b"RIFF")
    (folder / "1.caption").write_bytes("\ufeffa red S* \\(fate\\)\r\n".encode())
    (folder / "10.PNG.txt").write_text("a blue S*")
    assert main(["train", "set", *QUICK]) == 0
    said = capsys.readouterr().err
    assert "2 of 3 pictures have a caption of their own" in said and "what = object" in said
    assert said.index("1.PNG: a red S* ") < said.index("2.PNG: (drawn)") < said.index("10.PNG: a blue S*")
    assert "broken.webp" in said and "._1" not in said


@pytest.mark.parametrize(
    ("lines", "flags", "pairs"),
    [
        ("one S*\r\ntwo S*\r\n\r\n", (), ["a.png: one S*", "b.jpg: two S*"]),
        ("b.jpg: two S*\na.png\tone S*\n", (), ["a.png: one S*", "b.jpg: two S*"]),
        ("one S*\ntwo S*", ("--what", "custom"), ["a.png: one S*", "caption_lines"]),
        ("one S*\ntwo S*", ("--what", "custom", "--caption-lines", "drawn"), ["draws from the 2 captions"]),
        ("one S*\ntwo S*\nthree S*\n\n", ("--what", "custom"), ["draws from the 3 captions"]),
    ],
)
def test_a_caption_file_is_shown_as_it_is_used(
    lines: str, flags: tuple[str, ...], pairs: list[str], capsys: Output
) -> None:
    Path("lines.txt").write_bytes(lines.encode())
    assert main(["train", "a.png", "b.jpg", *QUICK, "--captions", "lines.txt", *flags]) == 0
    said = capsys.readouterr().err
    assert all(pair in said for pair in pairs)


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("none.txt", "no caption file"),
        ("empty", "empty is no file; give a text file"),
        ("broken.txt", "no text in UTF-8"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(file: str, sentence: str, capsys: Output) -> None:
    Path("empty").mkdir()
    Path("broken.txt").write_bytes(b"\x89PNG\xff\xfe")
    assert sentence in refused(["train", "a.png", *QUICK, "--captions", file], capsys)
