"""`textual-inversion convert`: a word for another program, and what cannot be one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Output, refused, rows, run, vectors_in
from safetensors.torch import load_file, save_file

from ti_engine.files import load_embedding

pytestmark = pytest.mark.usefixtures("word_files")


def test_convert_writes_what_a_program_reads(word_files: Any, capsys: Output) -> None:
    assert run("convert", "cat.safetensors", "--for", "onetrainer", "--output", "out/cat.safetensors") == 0
    assert torch.equal(load_file("out/cat.safetensors")["emp_params"], word_files.cat)
    told = capsys.readouterr()
    assert told.out == f"<cat>, 2 vectors for SD1: {Path('out/cat.safetensors')}\n"
    assert run("convert", "onetrainer.safetensors", "--for", "comfyui", "--output", "new.safetensors") == 0
    told = capsys.readouterr()
    assert told.out.strip().endswith("prompts of ComfyUI call it embedding:new")
    assert "warning: Width 768" in told.err
    assert torch.equal(load_file("new.safetensors")["clip_l"], rows(15))


def test_convert_writes_two_files_for_diffusers_and_says_so(word_files: Any, capsys: Output) -> None:
    flags = ["--for", "diffusers", "--output", "a.safetensors", "--dtype", "float16", "--json"]
    assert run("convert", "xl.safetensors", *flags) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "words": [
            {
                "files": ["a.safetensors", "a_2.safetensors"],
                "name": "<xl>",
                "family": "sdxl",
                "vectors": {"clip_l": [1, 768], "clip_g": [1, 1280]},
                "program": "diffusers",
            }
        ],
        "warnings": [],
    }
    assert torch.equal(load_file("a_2.safetensors")["<xl>"], word_files.xl_clip_g.half())
    both = load_embedding("a.safetensors")
    assert torch.equal(both.vectors["clip_l"], word_files.xl_clip_l.half().float())
    assert torch.equal(both.vectors["clip_g"], word_files.xl_clip_g.half().float())
    assert run("convert", "xl.safetensors", *flags) == 2  # nothing is overwritten unasked
    assert run("convert", "xl.safetensors", *flags, "--overwrite") == 0


def test_convert_keeps_what_the_file_says_and_adds_what_is_given() -> None:
    flags = ["--author", "A", "--usage-hint", "at the end", "--negative", "--thumbnail", "red.png", "--tags", "a, b"]
    assert run("convert", "cat.safetensors", "--output", "new.safetensors", "--placeholder", "<tom>", *flags) == 0
    word = load_embedding("new.safetensors")
    assert word.placeholder == word.metadata["modelspec.title"] == "<tom>"
    assert word.metadata["note"] == "cat"
    assert word.metadata["modelspec.author"] == "A"
    assert word.metadata["modelspec.usage_hint"] == "at the end"
    assert word.metadata["modelspec.is_negative_embedding"] == "true"
    assert word.metadata["modelspec.thumbnail"].startswith("data:image/jpeg;base64,")
    assert b"red.png" not in Path("new.safetensors").read_bytes()


def test_a_title_that_was_given_stays() -> None:
    assert run("convert", "cat.safetensors", "--output", "a.safetensors", "--title", "Tom") == 0
    assert run("convert", "a.safetensors", "--output", "b.safetensors", "--placeholder", "<tom>") == 0
    assert load_embedding("b.safetensors").metadata["modelspec.title"] == "Tom"


def test_a_picture_carries_a_word(word_files: Any, capsys: Output) -> None:
    picture = ["--thumbnail", "red.png"]
    assert run("convert", "cat.safetensors", "--for", "a1111", "--output", "tom.png", *picture) == 0
    assert "prompts of AUTOMATIC1111 call it tom" in capsys.readouterr().out
    word = load_embedding("tom.png")
    assert torch.equal(word.vectors["clip_l"], word_files.cat)
    assert (word.placeholder, word.metadata["name"], word.metadata["note"]) == ("<cat>", "tom", "cat")
    assert run("convert", "cat.safetensors", "--output", "plain.png") == 0
    assert torch.equal(vectors_in("plain.png"), word_files.cat)


def test_two_halves_of_a_word_become_one_file() -> None:
    save_file({"<cat>": rows(0)}, "one.safetensors")
    save_file({"<cat>": torch.ones(1, 1280)}, "two.safetensors")
    assert run("convert", "one.safetensors", "two.safetensors", "--output", "both.safetensors") == 0
    assert {key: list(part.shape) for key, part in load_embedding("both.safetensors").vectors.items()} == {
        "clip_l": list(rows(0).shape),
        "clip_g": [1, 1280],
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("convert none.safetensors --output new.safetensors", "There is no file none.safetensors"),
        ("convert red.png --output new.safetensors", "red.png"),
        ("convert bundle.safetensors --output new.safetensors", "holds 2 words (cat, dog); take one out"),
        ("convert cat.safetensors --output new.pt", "must end in .safetensors"),
        ("convert cat.safetensors --output new.bin --for diffusers", "must end in .safetensors"),
        (
            "convert cat.safetensors --output dog.safetensors",
            "dog.safetensors exists already; choose another --output or add --overwrite",
        ),
        ("convert cat.safetensors --output new.safetensors --for photoshop", "invalid choice"),
        ("convert cat.safetensors --output new.safetensors --dtype int8", "invalid choice"),
        ("convert cat.safetensors --output new.safetensors --thumbnail none.jpg", "no picture none.jpg"),
        ("convert cat.safetensors --output new.safetensors --family sdxl", "cannot be converted faithfully"),
        ("convert xl.safetensors --output new.png", "is one of SDXL"),
        ("convert cat.safetensors --output new.png --for invokeai", "InvokeAI reads no words from pictures"),
        ("convert cat.safetensors", "required"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: str, sentence: str, capsys: Output) -> None:
    assert sentence in refused(arguments.split(), capsys)
