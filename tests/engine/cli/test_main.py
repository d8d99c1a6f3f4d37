"""What all commands share: the help, the story from pictures to pictures, and an error as one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import QUICK, Output, refused
from PIL import Image

from ti_engine.cli import main


@pytest.mark.usefixtures("pictures_and_model")
def test_train_generate_inspect(capsys: Output) -> None:
    assert main(["train", "a.png", "b.jpg", *QUICK, "--num-vectors", "2", "--output", "w.safetensors", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["file"] == "w.safetensors"
    assert result["steps"] == 2
    assert result["settings"]["num_vectors"] == 2

    assert main(["inspect", "w.safetensors", "--json", "--model", "demo"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["format"] == "safetensors: emb_params"
    (word,) = content["words"]
    assert word["name"] == "S*"
    assert word["vectors"]["clip_l"]["shape"] == [2, 128]
    assert word["vectors"]["clip_l"]["dtype"] == "float32"
    assert len(word["vectors"]["clip_l"]["sha256_f32"]) == 64
    record = json.loads(word["metadata"]["textual_inversion"])
    assert record["model"]["name"] == "demo"
    assert len(record["model"]["sha256"]) == 64
    assert record["num_pictures"] == 2
    assert str(Path.cwd()) not in word["metadata"]["textual_inversion"]

    prompt = ["generate", "a photo of S*", "--model", "demo", "--embedding", "w.safetensors", "--output", "out"]
    prompt += ["--num-images", "2", "--seed", "5", "--steps", "2", "--resolution", "64"]
    assert main([*prompt, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == [5, 6]
    assert Image.open("out/6.png").size == (64, 64)
    assert main(prompt) == 2
    assert "exists already" in capsys.readouterr().err


def test_without_a_command_the_help_is_named(capsys: Output) -> None:
    assert "required" in refused([], capsys)
