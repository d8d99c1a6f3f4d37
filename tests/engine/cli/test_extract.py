"""`textual-inversion extract`: words out of a file that holds several."""

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


def test_extract_one_word_or_all(word_files: Any, capsys: Output) -> None:
    assert run("extract", "bundle.safetensors", "--word", "dog", "--output", "one.safetensors") == 0
    assert torch.equal(load_file("one.safetensors")["emb_params"], word_files.dog)
    capsys.readouterr()
    assert run("extract", "bundle.safetensors", "--all", "--output", "all", "--json", "--dtype", "bfloat16") == 0
    told = json.loads(capsys.readouterr().out)
    assert [word["name"] for word in told["words"]] == ["cat", "dog"]
    assert sorted(file.name for file in Path("all").iterdir()) == ["cat.safetensors", "dog.safetensors"]
    assert torch.equal(load_file("all/cat.safetensors")["emb_params"], word_files.cat.bfloat16())
    assert run("extract", "bundle.safetensors", "--all", "--output", "all") == 2
    assert "cat.safetensors exists already" in capsys.readouterr().err


def test_words_with_names_that_no_file_can_have_stay_in_their_folder() -> None:
    names = ["../../up", "<s>", "[S]", "a/b", "- -"]
    save_file({name: rows(number) for number, name in enumerate(names)}, "many.safetensors")
    assert run("extract", "many.safetensors", "--all", "--output", "all") == 0
    found = {load_embedding(file).placeholder: file for file in Path("all").iterdir()}
    assert set(found) == set(names)
    for number, name in enumerate(names):
        assert torch.equal(vectors_in(str(found[name])), rows(number))
    assert len({file.name.lower() for file in found.values()}) == len(names)


def test_what_a_lora_says_of_its_own_training_stays_there(capsys: Output) -> None:
    words = {"bundle_emb.cat.clip_l": rows(0), "x.lora_up.weight": torch.ones(2, 2)}
    said = {"ss_tag_frequency": "x" * 1_200_000, "note": "y" * 1_200_000, "modelspec.author": "A"}
    save_file(words, "lora.safetensors", said)
    assert run("extract", "lora.safetensors", "--word", "cat", "--output", "cat2.safetensors") == 0
    assert "warning: What the file said under note is too long for a word and left out." in capsys.readouterr().err
    metadata = load_embedding("cat2.safetensors").metadata
    assert metadata["modelspec.author"] == "A" and not {"note", "ss_tag_frequency"} & metadata.keys()
    assert run("extract", "lora.safetensors", "--word", "cat", "--output", "cat3.safetensors", "--json") == 0
    assert any("under note is too long" in warning for warning in json.loads(capsys.readouterr().out)["warnings"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("extract bundle.safetensors --word bird --output new.safetensors", "no word called bird; it has cat, dog"),
        ("extract bundle.safetensors --output new.safetensors", "one of the arguments --word --all is required"),
        ("extract bundle.safetensors --all --placeholder x --output new", "for one word"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: str, sentence: str, capsys: Output) -> None:
    assert sentence in refused(arguments.split(), capsys)
