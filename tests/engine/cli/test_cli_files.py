"""convert, merge and extract through main([...]): files in, files out, and a sentence for everything else."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from ti_engine import EncoderInfo, TokenEmbedding
from ti_engine.cli import main, merge
from ti_engine.files import load_embedding, save_embedding

Output = pytest.CaptureFixture[str]
VOCABULARY = {"man": 1, "woman": 2, "red hat": 3}


class SmallVocabulary:
    """A model as far as merge asks for one: the vectors of three words of SD1's width, one of them of two tokens."""

    encoders = {"clip_l": EncoderInfo(768, 75, 0.01, 0.4)}  # noqa: RUF012

    def word_vectors(self, words: str) -> dict[str, Tensor]:
        if words not in VOCABULARY:
            raise ValueError(f"The vocabulary does not hold {words!r}.")
        return {"clip_l": rows(VOCABULARY[words], len(words.split()))}


def rows(seed: int, count: int = 1, width: int = 768) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A folder with words of several families and programs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(merge, "open_model", lambda arguments: SmallVocabulary())
    words = {"cat": rows(10, 2), "dog": rows(11, 2), "king": rows(12)}
    for name, vectors in words.items():
        save_embedding(TokenEmbedding({"clip_l": vectors}, f"<{name}>", {"note": name}), f"{name}.safetensors")
    xl = {"clip_l": rows(13), "clip_g": rows(14, width=1280)}
    save_embedding(TokenEmbedding(xl, "<xl>"), "xl.safetensors")
    save_file({"emp_params": rows(15)}, "onetrainer.safetensors")
    save_file({f"bundle_emb.{name}.clip_l": words[name] for name in ("cat", "dog")}, "bundle.safetensors")
    Image.new("RGB", (40, 20), "red").save("red.png")
    return SimpleNamespace(**words, **{f"xl_{key}": vectors for key, vectors in xl.items()})


def run(*arguments: str) -> int:
    try:
        return main(arguments)
    except SystemExit as exit:  # argparse's own
        return int(exit.code or 0)


def vectors_in(file: str) -> Tensor:
    return load_embedding(file).vectors["clip_l"]


def test_convert_writes_what_a_program_reads(files: Any, capsys: Output) -> None:
    assert run("convert", "cat.safetensors", "--for", "onetrainer", "--output", "out/cat.safetensors") == 0
    assert torch.equal(load_file("out/cat.safetensors")["emp_params"], files.cat)
    told = capsys.readouterr()
    assert told.out == f"<cat>, 2 vectors for SD1: {Path('out/cat.safetensors')}\n"
    assert run("convert", "onetrainer.safetensors", "--for", "comfyui", "--output", "new.safetensors") == 0
    told = capsys.readouterr()
    assert told.out.strip().endswith("prompts of ComfyUI call it embedding:new")
    assert "warning: Width 768" in told.err
    assert torch.equal(load_file("new.safetensors")["clip_l"], rows(15))


def test_convert_writes_two_files_for_diffusers_and_says_so(files: Any, capsys: Output) -> None:
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
    assert torch.equal(load_file("a_2.safetensors")["<xl>"], files.xl_clip_g.half())
    both = load_embedding("a.safetensors")
    assert torch.equal(both.vectors["clip_l"], files.xl_clip_l.half().float())
    assert torch.equal(both.vectors["clip_g"], files.xl_clip_g.half().float())
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


def test_a_picture_carries_a_word(files: Any, capsys: Output) -> None:
    picture = ["--thumbnail", "red.png"]
    assert run("convert", "cat.safetensors", "--for", "a1111", "--output", "tom.png", *picture) == 0
    assert "prompts of AUTOMATIC1111 call it tom" in capsys.readouterr().out
    word = load_embedding("tom.png")
    assert torch.equal(word.vectors["clip_l"], files.cat)
    assert (word.placeholder, word.metadata["name"], word.metadata["note"]) == ("<cat>", "tom", "cat")
    assert run("convert", "cat.safetensors", "--output", "plain.png") == 0
    assert torch.equal(vectors_in("plain.png"), files.cat)


def test_a_family_settles_what_a_width_leaves_open(capsys: Output) -> None:
    save_file({"<word>": rows(1, width=4096), "<other>": rows(2, width=4096)}, "two.safetensors")
    save_file({"emb_params": rows(1)}, "one.safetensors")
    assert run("convert", "one.safetensors", "--family", "sd1", "--output", "new.safetensors") == 0
    assert capsys.readouterr().err == ""
    for command in (["convert", "one.safetensors"], ["extract", "two.safetensors", "--word", "<word>"]):
        assert run(*command, "--family", "sdxl", "--output", "never.safetensors") == 2
        assert "cannot be converted faithfully" in capsys.readouterr().err


def test_sum_is_the_mean_by_default(files: Any) -> None:
    assert run("merge", "cat.safetensors", "dog.safetensors", "--output", "catdog.safetensors") == 0
    merged = load_embedding("catdog.safetensors")
    torch.testing.assert_close(merged.vectors["clip_l"], (files.cat + files.dog) / 2)
    assert merged.placeholder == "catdog"
    assert merged.metadata["modelspec.merged_from"] == "cat (0.5), dog (0.5)"
    assert "note" not in merged.metadata


def test_weights_that_make_a_word_far_longer_are_told(capsys: Output) -> None:
    for weights, told in (("0.7 0.3", ""), ("70 30", "x the longest that went into it: it will dominate the prompt.")):
        flags = ["--weights", *weights.split(), "--output", "a.safetensors", "--overwrite"]
        assert run("merge", "cat.safetensors", "dog.safetensors", *flags) == 0
        error = capsys.readouterr().err
        assert told in error and ("dominate" in error) == bool(told)


def test_weights_may_be_negative(files: Any) -> None:
    flags = ["--weights", "1.5", "-0.5", "--output", "a.safetensors"]
    assert run("merge", "cat.safetensors", "dog.safetensors", *flags) == 0
    torch.testing.assert_close(vectors_in("a.safetensors"), 1.5 * files.cat - 0.5 * files.dog)


def test_slerp_and_concat(files: Any, capsys: Output) -> None:
    both = ["cat.safetensors", "dog.safetensors"]
    assert run("merge", *both, "--method", "slerp", "--weights", "3", "1", "--output", "s.safetensors") == 0
    turned = vectors_in("s.safetensors")
    lengths = 0.75 * files.cat.norm(dim=1) + 0.25 * files.dog.norm(dim=1)
    torch.testing.assert_close(turned.norm(dim=1), lengths)
    assert run("merge", *both, "--method", "concat", "--output", "c.safetensors", "--json") == 0
    assert torch.equal(vectors_in("c.safetensors"), torch.cat([files.cat, files.dog]))
    assert load_embedding("c.safetensors").metadata["modelspec.merged_from"] == "cat, dog"
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["words"][0]["vectors"] == {"clip_l": [4, 768]}


def test_king_minus_man_plus_woman(files: Any) -> None:
    flags = ["--model", "demo", "--subtract", "man", "--add", "woman"]
    assert run("merge", "king.safetensors", *flags, "--output", "queen.safetensors") == 0
    expected = files.king.double() - rows(1).double() + rows(2).double()
    queen = load_embedding("queen.safetensors")
    torch.testing.assert_close(queen.vectors["clip_l"], expected.float())
    assert queen.metadata["modelspec.merged_from"] == "king (1), woman (1), man (-1)"


def test_a_vocabulary_word_of_one_token_acts_on_every_vector(files: Any) -> None:
    assert run("merge", "cat.safetensors", "--model", "demo", "--add", "man", "--output", "a.safetensors") == 0
    torch.testing.assert_close(vectors_in("a.safetensors"), files.cat + rows(1))
    assert run("merge", "cat.safetensors", "--model", "demo", "--add", "red hat", "--output", "b.safetensors") == 0
    torch.testing.assert_close(vectors_in("b.safetensors"), files.cat + rows(3, 2))


def test_words_of_the_vocabulary_alone() -> None:
    flags = ["--model", "demo", "--add", "man", "woman", "--output", "a.safetensors"]
    assert run("merge", *flags) == 0
    torch.testing.assert_close(vectors_in("a.safetensors"), rows(1) + rows(2))


def test_one_file_is_cut_and_rescaled_and_stays_what_it_is(files: Any) -> None:
    assert run("merge", "cat.safetensors", "--num-vectors", "1", "--output", "a.safetensors") == 0
    assert torch.equal(vectors_in("a.safetensors"), files.cat[:1])
    assert run("merge", "cat.safetensors", "--rescale", "--model", "demo", "--output", "b.safetensors") == 0
    word = load_embedding("b.safetensors")
    torch.testing.assert_close(word.vectors["clip_l"].norm(dim=1), torch.full((2,), 0.4))
    assert (word.placeholder, word.metadata["note"]) == ("<cat>", "cat")
    assert "modelspec.merged_from" not in word.metadata


def test_words_of_different_lengths_are_cut_to_be_merged(files: Any) -> None:
    both = ["cat.safetensors", "king.safetensors", "--output", "a.safetensors"]
    assert run("merge", *both) == 2
    assert run("merge", *both, "--num-vectors", "1") == 0
    torch.testing.assert_close(vectors_in("a.safetensors"), (files.cat[:1] + files.king) / 2)


def test_extract_one_word_or_all(files: Any, capsys: Output) -> None:
    assert run("extract", "bundle.safetensors", "--word", "dog", "--output", "one.safetensors") == 0
    assert torch.equal(load_file("one.safetensors")["emb_params"], files.dog)
    capsys.readouterr()
    assert run("extract", "bundle.safetensors", "--all", "--output", "all", "--json", "--dtype", "bfloat16") == 0
    told = json.loads(capsys.readouterr().out)
    assert [word["name"] for word in told["words"]] == ["cat", "dog"]
    assert sorted(file.name for file in Path("all").iterdir()) == ["cat.safetensors", "dog.safetensors"]
    assert torch.equal(load_file("all/cat.safetensors")["emb_params"], files.cat.bfloat16())
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
        ("merge --output new.safetensors", "nothing to merge"),
        ("merge none.safetensors --output new.safetensors", "There is no file none.safetensors"),
        ("merge cat.safetensors xl.safetensors --output new.safetensors", "cat is a word of SD1 and xl one of SDXL"),
        ("merge cat.safetensors king.safetensors --output new.safetensors", "cat has 2 vectors and king 1 vector"),
        ("merge cat.safetensors --weights 1 2 --output new.safetensors", "read as 1 and 2, which is 2 for 1 word;"),
        ("merge cat.safetensors dog.safetensors --weights 1 nan --output new.safetensors", "finite numbers"),
        ("merge cat.safetensors cat.safetensors --weights 1 -1 --output new.safetensors", "cancel out"),
        ("merge cat.safetensors --add man --output new.safetensors", "or name it with --model"),
        ("merge cat.safetensors --rescale --output new.safetensors", "or name it with --model"),
        ("merge cat.safetensors --model demo --add gloop --output new.safetensors", "gloop"),
        ("merge xl.safetensors --model demo --rescale --output new.safetensors", "this model takes"),
        ("merge cat.safetensors --method slerp --output new.safetensors", "takes exactly two"),
        (
            "merge cat.safetensors dog.safetensors --method slerp --weights 1 -1 --output new.safetensors",
            "not negative",
        ),
        (
            "merge cat.safetensors dog.safetensors --method concat --weights 1 1 --output new.safetensors",
            "concat takes",
        ),
        ("merge cat.safetensors --model demo --method concat --add man --output new.safetensors", "belong to a sum"),
        ("merge cat.safetensors --num-vectors 3 --output new.safetensors", "1 to 2 can be kept"),
        ("extract bundle.safetensors --word bird --output new.safetensors", "no word called bird; it has cat, dog"),
        ("extract bundle.safetensors --output new.safetensors", "one of the arguments --word --all is required"),
        ("extract bundle.safetensors --all --placeholder x --output new", "for one word"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: str, sentence: str, capsys: Output) -> None:
    before = {file: file.read_bytes() for file in Path().iterdir()}
    assert run(*arguments.split()) == 2
    streams = capsys.readouterr()
    assert sentence in streams.err
    assert streams.out == ""
    assert streams.err.strip().splitlines()[-1].startswith("textual-inversion")
    assert "Traceback" not in streams.err
    assert {file: file.read_bytes() for file in Path().iterdir()} == before


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


def test_two_halves_of_a_word_become_one_file() -> None:
    save_file({"<cat>": rows(0)}, "one.safetensors")
    save_file({"<cat>": torch.ones(1, 1280)}, "two.safetensors")
    assert run("convert", "one.safetensors", "two.safetensors", "--output", "both.safetensors") == 0
    assert {key: list(part.shape) for key, part in load_embedding("both.safetensors").vectors.items()} == {
        "clip_l": list(rows(0).shape),
        "clip_g": [1, 1280],
    }
