"""`textual-inversion train`: what it writes and prints, what it keeps when a run breaks off, what it refuses."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import QUICK, Output, refused
from PIL import Image

from ti_engine import TokenEmbedding
from ti_engine import train as train_loop
from ti_engine.cli import main
from ti_engine.files import load_embedding, save_embedding
from ti_engine.files.formats.metadata import training_record
from ti_engine.training import loop
from ti_engine.training.config import PRESETS, TrainConfig

pytestmark = pytest.mark.usefixtures("pictures_and_model")


def test_a_preset_changes_several_settings(capsys: Output) -> None:
    arguments = ["train", "a.png", "b.jpg", *QUICK, "--preset", "paper", "--json"]
    assert main(arguments) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert (settings["learning_rate"], settings["schedule"], settings["flip"]) == (0.04, "constant", True)
    assert settings["steps"] == 2  # a flag of its own counts more


def test_warnings_come_before_the_run_and_after_it(capsys: Output) -> None:
    assert main(["train", "a.png", *QUICK, "--learning-rate", "10", "--evaluate-every", "0"]) == 0
    first, *others = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert "only one picture" in first and any("times as long as a word" in line for line in others)


def test_a_run_that_ends_in_nan_is_saved_with_the_reason(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:

    def stopped(*arguments: Any) -> Iterator[Any]:
        for step in train_loop(*arguments):
            step.record.stopped = (
                "The loss became nan at step 2; the vectors from before are kept." if step.index else None
            )
            yield step

    monkeypatch.setattr(importlib.import_module("ti_engine.cli.learning"), "train", stopped)
    assert main(["train", "a.png", *QUICK]) == 0
    assert "The loss became nan at step 2" in capsys.readouterr().err
    assert load_embedding("word.safetensors").num_vectors == 1


def test_the_same_seed_gives_the_same_file_content() -> None:
    for name in ("one", "two"):
        assert main(["train", "a.png", "b.jpg", *QUICK, "--output", f"{name}.safetensors"]) == 0
    one, two = (load_embedding(f"{name}.safetensors", {128: "clip_l"}).vectors["clip_l"] for name in ("one", "two"))
    assert torch.equal(one, two)


def test_start_from_a_file_takes_over_its_size_and_tells_it(capsys: Output) -> None:
    save_embedding(TokenEmbedding({"clip_l": torch.ones(3, 128)}), "start.safetensors")
    assert main(["train", "a.png", *QUICK, "--init-from", "start.safetensors"]) == 0
    word = load_embedding("word.safetensors")
    assert word.num_vectors == 3
    digest = hashlib.sha256(Path("start.safetensors").read_bytes()).hexdigest()
    record = training_record(word.metadata)
    assert record["started_from"] == {"file": "start.safetensors", "sha256": digest}
    assert "Started from the vectors of S*." in capsys.readouterr().err


def test_the_tokens_that_vectors_start_from_are_told(capsys: Output) -> None:
    flags = ["--initial-words", "red, heart", "--num-vectors", "3"]
    assert main(["train", "a.png", *QUICK, *flags]) == 0
    assert "vector by vector: 1 red, 2 red, 3 heart." in capsys.readouterr().err
    assert training_record(load_embedding("word.safetensors").metadata)["started_from"] is None


def test_pictures_that_teach_little_are_named(capsys: Output) -> None:
    Image.effect_noise((400, 50), 60).save("wide.png")
    assert main(["train", "a.png", "wide.png", *QUICK]) == 0
    said = capsys.readouterr().err
    assert "warning: a.png is one colour all over" in said and "warning: wide.png is 400 x 50" in said


def test_a_full_memory_keeps_what_was_learned(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    compute = loop.compute_gradient

    def full(*arguments: Any) -> float:
        nonlocal full_after
        full_after -= 1
        if full_after < 0:
            raise torch.cuda.OutOfMemoryError
        return compute(*arguments)

    monkeypatch.setattr(loop, "compute_gradient", full)
    full_after = 1
    assert main(["train", "a.png", *QUICK]) == 0
    error = capsys.readouterr().err
    assert "There was no memory for step 2. Lower resolution" in error and "the same command goes on" in error
    assert load_embedding("word.safetensors").num_vectors == 1
    full_after = 5
    assert main(["train", "a.png", *QUICK]) == 0
    assert "goes on from step 1 of 2" in capsys.readouterr().err
    full_after = 0
    assert main(["train", "a.png", *QUICK, "--seed", "1", "--output", "none.safetensors"]) == 2
    assert "The memory of cpu does not hold a step of training. Lower resolution (now" in capsys.readouterr().err
    assert not Path("none.safetensors").exists()


def test_what_was_learned_is_not_lost_when_it_cannot_be_saved(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:

    def folder_taken(*arguments: Any) -> Iterator[Any]:
        Path("folder").write_text("")
        yield from train_loop(*arguments)

    monkeypatch.setattr(importlib.import_module("ti_engine.cli.learning"), "train", folder_taken)
    assert main(["train", "a.png", *QUICK, "--output", "folder/my.safetensors"]) == 2
    error = capsys.readouterr().err
    assert "my.safetensors could not be written" in error
    rescued = Path(error.split(" is in ")[1].split(" instead")[0])
    assert load_embedding(rescued).num_vectors == 1
    rescued.unlink()
    rescued.parent.rmdir()


def test_help_names_every_setting_and_its_default(capsys: Output) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in set(TrainConfig().to_dict()) - {"preview_every"}:
        assert "--" + name.replace("_", "-") in text
    assert f"[{TrainConfig.steps}]" in text
    assert all(name in text for name in PRESETS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train"], "required"),
        (["train", "none.png", *QUICK], "There is no picture none.png"),
        (["train", "broken.png", *QUICK], "broken.png"),
        (["train", "empty", *QUICK], "holds no picture"),
        (["train", "a.png", *QUICK, "--steps", "0"], "steps must be"),
        (["train", "a.png", *QUICK, "--steps", "many"], "invalid int value"),
        (["train", "a.png", *QUICK, "--learning-rate", "0"], "learning_rate must be"),
        (["train", "a.png", *QUICK, "--learning-rate", "nan"], "learning_rate must be"),
        (["train", "a.png", *QUICK, "--gradient-clip", "inf"], "gradient_clip must be a number at least 0, got inf"),
        (["train", "a.png", *QUICK, "--placeholder", ""], "placeholder is empty"),
        (["train", "a.png", *QUICK, "--placeholder", "a,b"], "must not contain ',' because"),
        (["train", "a.png", *QUICK, "--initial-words", "gloop"], "gloop"),
        (
            ["train", "a.png", *QUICK, "--initial-words", "heart", "--init-from", "w.safetensors"],
            "either from an embedding (init_from) or from initial_words",
        ),
        (["train", "a.png", *QUICK, "--init-from", "none.safetensors"], "There is no file none.safetensors"),
        (["train", "a.png", *QUICK, "--num-vectors", "500"], "use fewer"),
        (["train", "a.png", *QUICK, "--output", "a.pt"], "must end in .safetensors"),
        (["train", "a.png", *QUICK, "--output", "w.safetensors"], "exists already"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: list[str], sentence: str, capsys: Output) -> None:
    Path("empty").mkdir()
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    save_embedding(TokenEmbedding({"clip_l": torch.ones(1, 128)}), "w.safetensors")
    assert sentence in refused(arguments, capsys)
