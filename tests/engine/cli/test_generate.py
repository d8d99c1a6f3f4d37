"""`textual-inversion generate`: pictures with one word and with several, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from command_line import Output, refused

from ti_engine import TokenEmbedding
from ti_engine.cli import main
from ti_engine.files import save_embedding

pytestmark = pytest.mark.usefixtures("pictures_and_model")


def test_several_words_and_a_negative_prompt(capsys: Output) -> None:
    rows = torch.randn(3, 1, 128, generator=torch.Generator().manual_seed(0))
    for name, vectors in zip(("fox", "owl", "bad"), rows, strict=True):
        save_embedding(TokenEmbedding({"clip_l": vectors}, f"{name}*"), f"{name}.safetensors")

    def draw(output: str, prompt: str, *flags: str) -> bytes:
        model = ["--model", "demo", "--steps", "2", "--resolution", "64", "--output", output]
        assert main(["generate", prompt, *model, *flags]) == 0
        return (Path(output) / "0.png").read_bytes()

    fox, owl, bad = (["--embedding", f"{name}.safetensors"] for name in ("fox", "owl", "bad"))
    both = draw("a", "fox* beside owl*", *fox, *owl)
    assert both not in (draw("b", "fox* beside owl", *fox), draw("c", "fox* beside fox*", *fox))
    assert both == draw("d", "x beside y", *owl, *fox, "--placeholder", "y", "--placeholder", "x")
    away = draw("e", "fox* beside owl*", *fox, *owl, *bad, "--negative", "a bad*")
    assert away not in (both, draw("f", "fox* beside owl*", *fox, *owl, "--negative", "a bad"))
    capsys.readouterr()
    draw("g", "a fox*", *fox, *bad, "--negative", "a bad*", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["words"], told["negative"]) == (["fox*", "bad*"], "a bad*")


def test_names_of_other_syntaxes_are_no_words_of_a_prompt(capsys: Output) -> None:
    save_embedding(TokenEmbedding({"clip_l": torch.ones(1, 128)}, "fox"), "fox.safetensors")
    flags = ["--model", "demo", "--embedding", "fox.safetensors", "--output", "out"]
    for prompt, sentence in (
        ("a <fox-anim>", "does not contain fox.* inside of <fox-anim>"),
        ("a fox, <lora:fox:1>", "holds <lora:fox:1>, which no --embedding is called"),
        ("a fox beside embedding:den/fox", "holds embedding:den/fox"),
    ):
        assert main(["generate", prompt, *flags]) == 2
        assert re.search(sentence, capsys.readouterr().err)
    assert main(["generate", "a fox", *flags, "--negative", "<blur>"]) == 2
    assert "holds <blur>" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("prompt", "flags", "sentence"),
    [
        ("a S*", "--embedding none.pt", "There is no file"),
        ("a cat", "--embedding w.safetensors", "does not contain"),
        ("S*", "--embedding wide.safetensors", "width 768"),
        ("S*", "--embedding w.safetensors --num-images 0", "--num-images must be"),
        ("S*", "--embedding w.safetensors --resolution 99", "--resolution must be"),
        (
            "a S*",
            "--embedding w.safetensors --embedding w.safetensors",
            "Two of the embeddings are called S*; say with --placeholder",
        ),
        (
            "a S*",
            "--embedding w.safetensors --embedding w.safetensors --placeholder x",
            "2 --embedding and 1 --placeholder",
        ),
        (
            "a S*",
            "--embedding w.safetensors --negative blur --guidance 1",
            "With --guidance 1 a negative prompt does nothing",
        ),
        *(
            ("S*", f"--embedding w.safetensors --guidance {number}", f"--guidance must be from 0 to 1000, got {number}")
            for number in ("nan", "inf", "-1.0")
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(prompt: str, flags: str, sentence: str, capsys: Output) -> None:
    save_embedding(TokenEmbedding({"clip_l": torch.ones(1, 768)}), "wide.safetensors")
    save_embedding(TokenEmbedding({"clip_l": torch.ones(1, 128)}), "w.safetensors")
    assert sentence in refused(["generate", prompt, "--model", "demo", "--output", "o", *flags.split()], capsys)
