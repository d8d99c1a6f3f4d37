"""`textual-inversion inspect` on any file, and what is said of the vectors."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ti_engine import TokenEmbedding
from ti_engine.cli import main
from ti_engine.files import read_embedding_file
from ti_engine.training.backend import EncoderInfo
from ti_engine.word.inspection import describe, vector_warnings

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class TwoWords:
    """A vocabulary of the words east and north, both of norm 2."""

    def __init__(self) -> None:
        self.encoders: Mapping[str, EncoderInfo] = {"clip_l": EncoderInfo(width=4, max_vectors=75, rms=1.0, norm=2.0)}

    def nearest_words(self, key: str, vector: Tensor, count: int) -> list[tuple[str, float]]:
        unit = (vector / vector.norm()).tolist()
        return sorted([("east", unit[0]), ("north", unit[1])], key=lambda word: -word[1])[:count]


def test_json_is_what_programs_rely_on(capsys: Output) -> None:
    numbers = [[0.5] * 768, [-1.0] * 768]
    save_file({"emb_params": torch.tensor(numbers).half()}, "cat.safetensors", {"author": "me"})
    assert main(["inspect", "cat.safetensors", "--json"]) == 0
    streams = capsys.readouterr()
    assert streams.err == ""
    content = json.loads(streams.out)
    assert list(content) == ["file", "format", "words", "warnings"]
    assert content["file"] == "cat.safetensors"
    assert content["format"] == "safetensors: emb_params"
    raw = struct.pack("<1536f", *numbers[0], *numbers[1])
    assert content["words"] == [
        {
            "name": None,
            "vectors": {
                "clip_l": {
                    "shape": [2, 768],
                    "dtype": "float16",
                    "norms": [pytest.approx(13.856406), pytest.approx(27.712813)],
                    "sha256_f32": hashlib.sha256(raw).hexdigest(),
                }
            },
            "metadata": {"author": "me"},
        }
    ]
    assert len(content["warnings"]) == 1 and "Width 768" in content["warnings"][0]


def test_the_longest_vectors_still_give_json(capsys: Output) -> None:
    """Their square is beyond float32, and infinity is a word that JSON does not have."""
    save_file({"emb_params": torch.full((1, 768), 3e38)}, "cat.safetensors")
    assert main(["inspect", "cat.safetensors", "--json"]) == 0

    def not_json(text: str) -> float:
        raise AssertionError(text)

    (word,) = json.loads(capsys.readouterr().out, parse_constant=not_json)["words"]
    assert word["vectors"]["clip_l"]["norms"] == [pytest.approx(3e38 * 768**0.5)]


def test_a_terminal_without_the_letters_of_a_trigger() -> None:
    save_file({"<\u732b>": torch.ones(1, 768)}, "cat.safetensors")
    command = [sys.executable, "-c", "import sys; from ti_engine.cli import main; sys.exit(main())", "inspect"]
    path = os.pathsep.join([str(Path(__file__).resolve().parents[3]), *sys.path])
    told = subprocess.run(
        [*command, "cat.safetensors"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, b"")
    assert b"word: <\\u732b>" in told.stdout


def test_the_table_names_everything_on_single_lines(capsys: Output) -> None:
    said = {"note\n\x1b[2J": "a\nb", "long": "x" * 1000}
    save_file({"<a cat>": torch.ones(2, 768)}, "cat.safetensors", said)
    assert main(["inspect", "cat.safetensors"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert "\x1b" not in text
    assert {"word: <a cat>", "clip_l: 2 vectors of width 768, float32", "  1: norm 27.7128"} <= set(lines)
    assert "warning: Vectors 1 and 2 of clip_l are the same." in lines
    assert max(map(len, lines)) < 300
    save_file({"emb_params": torch.ones(1, 768)}, "dog.safetensors")
    assert main(["inspect", "dog.safetensors"]) == 0
    assert "word: dog, by the file's name" in capsys.readouterr().out


def test_a_pair_is_named_or_found(capsys: Output) -> None:
    save_file({"<cat>": torch.ones(1, 768)}, "one.safetensors")
    save_file({"<cat>": torch.ones(1, 1280)}, "two.safetensors")
    assert main(["inspect", "one.safetensors", "two.safetensors", "--json"]) == 0
    (word,) = json.loads(capsys.readouterr().out)["words"]
    assert list(word["vectors"]) == ["clip_l", "clip_g"]
    assert main(["inspect", "one.safetensors", "one.safetensors"]) == 2
    assert "are no pair" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_refused_file_is_one_sentence(flags: list[str], capsys: Output) -> None:
    save_file({"decoder.conv_in.weight": torch.ones(2, 2)}, "vae.safetensors")
    torch.save({}, "empty.pt")
    Path("cut.pt").write_bytes(Path("empty.pt").read_bytes()[:100])
    Path("folder").mkdir()
    for name in ("vae.safetensors", "empty.pt", "cut.pt", "folder", "absent.pt"):
        assert main(["inspect", name, *flags]) == 2
        streams = capsys.readouterr()
        assert streams.out == ""
        assert streams.err.startswith("textual-inversion: ") and streams.err.count("\n") == 1
        assert name in streams.err and "Traceback" not in streams.err


def test_with_a_model_the_nearest_words_are_told(tmp_path: Path) -> None:
    file = tmp_path / "cat.safetensors"
    save_file({"emb_params": torch.tensor([[3.0, 0, 0, 0], [0, 0.1, 0, 0], [-46.0, 0, 0, 0]])}, file)
    content = describe(read_embedding_file(file, {4: "clip_l"}), TwoWords())
    told: dict[str, Any] = content["words"][0]["vectors"]["clip_l"]
    assert told["vocabulary_norm"] == 2.0
    assert [words[0][0] for words in told["nearest_words"]] == ["east", "north", "north"]
    assert told["nearest_words"][0] == [["east", 1.0], ["north", 0.0]]
    assert content["warnings"] == [
        "Vector 3 of clip_l: norm 46 is 23x a word's: it will dominate the prompt.",
        "Vector 2 of clip_l: norm 0.1 is 0.05x a word's: it will hardly be noticed.",
    ]


def test_usual_norms_and_different_vectors_are_not_warned_of() -> None:
    usual = TokenEmbedding({"clip_l": torch.tensor([[1.0, 0, 0, 0], [0, 39.0, 0, 0]])})
    assert vector_warnings(usual, TwoWords()) == []
    thrice = TokenEmbedding({"clip_l": torch.ones(3, 4), "clip_g": torch.eye(2)})
    assert vector_warnings(thrice) == ["Vectors 1, 2 and 3 of clip_l are the same."]


def test_warnings_of_several_words_say_which(tmp_path: Path) -> None:
    file = tmp_path / "two.pt"
    torch.save({"<a>": torch.ones(2, 768), "<b>": torch.ones(1, 768)}, file)
    content = describe(read_embedding_file(file))
    assert [word["name"] for word in content["words"]] == ["<a>", "<b>"]
    assert "<a>: Vectors 1 and 2 of clip_l are the same." in content["warnings"]
