"""Names of embedding files, and that nothing is ever overwritten."""

from __future__ import annotations

import errno
import importlib
import json
import os
from dataclasses import replace

import pytest
import torch


@pytest.fixture
def folders(nodes):
    return importlib.import_module("ti_plugin.nodes.host.text.folders")


@pytest.fixture
def word(nodes):
    engine = importlib.import_module("ti_plugin.ti_engine")
    return engine.TokenEmbedding({"clip_l": torch.randn(2, 768)}, "S*")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("cat", "cat"),
        ("my cat", "my-cat"),
        ("ti/my cat.safetensors", "ti/my-cat"),
        ("pets\\cat", "pets/cat"),
        ("a, b: (c)", "a-b-c"),
        ("Ünï_1", "Ünï_1"),
        ("v1.5 cat", "v1-5-cat"),
        ("a:b", "a-b"),
        ("pets//cat", "pets/cat"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("\u092c\u093f\u0932\u094d\u0932\u0940", "\u092c\u093f\u0932\u094d\u0932\u0940"),  # vowel signs, a virama
        ("console", "console"),
    ],
)
def test_names_become_what_a_prompt_can_contain(folders, name, slug):
    assert folders.slug(name) == slug


@pytest.mark.parametrize("name", ["../cat", "a/../../b", "/etc/cat", "~/cat", "C:/cat", "", "   ", "***", "a/***/b"])
def test_names_that_lead_elsewhere_or_nowhere_are_refused(folders, name):
    with pytest.raises(ValueError, match="such as my-word"):
        folders.slug(name)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("CON", "holds CON, which Windows keeps for a device"),
        ("nul.safetensors", "holds nul, which Windows"),
        ("aux/x", "holds aux, which Windows"),
        ("pets/Lpt1", "holds Lpt1, which Windows"),
        ("pets/", "'pets/' ends with a folder; write the file's name behind it"),
        ("C:\\cat", "leads out"),
        ("../" + "x" * 300, "^.{,200}$"),
    ],
)
def test_a_name_that_cannot_be_is_one_short_sentence(folders, name, sentence):
    with pytest.raises(ValueError, match=sentence):
        folders.slug(name)


@pytest.mark.parametrize("name", ["x" * 300, "猫" * 100])
def test_a_name_that_the_disk_does_not_take_is_not_repeated_in_full(nodes, fake_host, word, name):
    with pytest.raises(ValueError, match=r"^.{,80}\.\.\. could not be written, because the name is too long\. Cure"):
        nodes.SaveEmbedding.execute(word, name)


def test_a_saved_word_comes_back_bit_for_bit(nodes, fake_host, word):
    saved = nodes.SaveEmbedding.execute(word, "pets/cat")
    assert saved.args[0] is word and saved.args[1] == "embedding:pets/cat"
    assert (fake_host.embeddings / "pets" / "cat.safetensors").is_file()
    loaded = nodes.LoadEmbedding.execute("pets/cat.safetensors").args[0]
    assert torch.equal(loaded.vectors["clip_l"], word.vectors["clip_l"]) and loaded.placeholder == "S*"
    assert nodes.LoadEmbedding.execute("pets/cat.safetensors", "T*").args[0].placeholder == "T*"


@pytest.mark.parametrize(
    "vectors", [{"clip_l": 128}, {"clip_l": 768}, {"clip_h": 1024}, {"clip_g": 1280, "t5xxl": 4096}]
)
def test_a_saved_word_comes_back_without_doubts(nodes, fake_host, word, vectors):
    vectors = {key: torch.randn(1, width) for key, width in vectors.items()}
    nodes.SaveEmbedding.execute(replace(word, vectors=vectors), "cat")
    loaded, report = nodes.LoadEmbedding.execute("cat.safetensors").args
    assert list(loaded.vectors) == list(vectors) and "Warning" not in report


@pytest.mark.parametrize("placeholder", ["a,b", "embedding:x", "{a|b}", "(cat", "cat:1.2", "x\ny", "<x>", "x" * 65])
def test_a_placeholder_is_what_training_takes(nodes, fake_host, word, placeholder):
    config = importlib.import_module("ti_plugin.ti_engine").TrainConfig
    nodes.SaveEmbedding.execute(word, "cat")
    with pytest.raises(ValueError, match=r"^placeholder ") as refused:
        nodes.LoadEmbedding.execute("cat.safetensors", placeholder)
    with pytest.raises(ValueError, match=r"^placeholder ") as as_in_training:
        config(placeholder=placeholder)
    assert str(refused.value) == str(as_in_training.value)


@pytest.mark.parametrize(
    ("called", "placeholder"), [("<cat>", "<cat>"), ("x\ny\x1b[31m", "x-y-31m"), ("a, b", "a-b"), ("(", "S*")]
)
def test_a_file_whose_word_no_prompt_can_contain_gets_another(nodes, fake_host, word, called, placeholder):
    files = importlib.import_module("ti_plugin.ti_engine.files")
    files.save_embedding(replace(word, placeholder=called), fake_host.embeddings / "cat.safetensors")
    embedding, report = nodes.LoadEmbedding.execute("cat.safetensors").args
    assert embedding.placeholder == placeholder and f"write {placeholder} in the prompt" in report
    assert ("Warning: The word is called" in report) == (called != placeholder)
    assert "\x1b" not in report and nodes.LoadEmbedding.execute("cat.safetensors", "T*").args[0].placeholder == "T*"


def test_names_of_strangers_are_cut_and_on_one_line(nodes, fake_host):
    names = ["a\x1b[31m", 900 * "b", *map(str, range(30))]
    stored = {f"bundle_emb.{name}.emb_params": torch.full((1, 768), 0.01) for name in names}
    importlib.import_module("safetensors.torch").save_file(stored, fake_host.embeddings / "many.safetensors")
    for word, begin in (("", "holds 32 words: "), ("c" * 1000, f"holds no word {60 * 'c'}; it holds ")):
        with pytest.raises(ValueError, match=begin) as refused:
            nodes.LoadEmbedding.execute("many.safetensors", "", word)
        said = str(refused.value)
        assert said.isprintable() and len(said) < 1000
        assert r"'a\x1b[31m'" in said and 60 * "b" in said and 61 * "b" not in said


def test_a_strangers_record_of_a_training_is_cut_and_on_one_line(nodes, fake_host, word):
    record = {
        "version": 1,
        "model": {"name": "a\nWarning: " + "b" * 100_000},
        "num_pictures": "\x1b[31m",
        "best_step": [1] * 1000,
    }
    importlib.import_module("safetensors.torch").save_file(
        dict(word.vectors), fake_host.embeddings / "cat.safetensors", {"textual_inversion": json.dumps(record)}
    )
    lines = nodes.LoadEmbedding.execute("cat.safetensors").args[1].splitlines()
    (told,) = [line for line in lines if line.startswith("Trained on ")]
    assert told.isprintable() and len(told) < 400 and not any(line.startswith("Warning") for line in lines)


def test_a_record_too_deep_to_read_is_none(nodes, fake_host, word):
    importlib.import_module("safetensors.torch").save_file(
        dict(word.vectors), fake_host.embeddings / "cat.safetensors", {"textual_inversion": "[" * 100_000}
    )
    assert "Trained on" not in nodes.LoadEmbedding.execute("cat.safetensors").args[1]


def test_absurd_vectors_are_told(nodes, fake_host, word):
    vectors = {"clip_l": torch.full((1, 768), 1e30)}
    nodes.SaveEmbedding.execute(replace(word, vectors=vectors), "cat")
    embedding, report = nodes.LoadEmbedding.execute("cat.safetensors").args
    assert "Warning: The vectors of clip_l hold numbers up to 1e+30. " in report
    report, picture = nodes.InspectEmbedding.execute(embedding).args
    assert "  1: 2.771e+31" in report and "up to 1e+30. " in report and bool(picture.isfinite().all())


def test_nothing_is_overwritten(nodes, fake_host, word):
    (fake_host.embeddings / "cat.pt").write_bytes(b"somebody else's")
    names = [nodes.SaveEmbedding.execute(word, "cat").args[1] for _ in range(2)]
    assert names == ["embedding:cat-2", "embedding:cat-3"]
    assert (fake_host.embeddings / "cat.pt").read_bytes() == b"somebody else's"
    assert "existed already" in nodes.SaveEmbedding.execute(word, "cat").args[2]


def test_a_file_that_has_gone_is_saved_again_and_once(nodes, fake_host, word):
    """As the host does it: a node runs where its fingerprint is not that of the run before."""
    seen = [None]

    def press_run():
        seen.append(nodes.SaveEmbedding.fingerprint_inputs(name="cat"))
        if seen[-1] != seen[-2]:
            nodes.SaveEmbedding.execute(word, "cat")
        return sorted(file.name for file in fake_host.embeddings.iterdir())

    assert press_run() == press_run() == ["cat.safetensors"]
    for _ in range(2):
        (fake_host.embeddings / "cat.safetensors").unlink()
        assert press_run() == press_run() == ["cat.safetensors"]
    assert seen == [None, 0, 0, 1, 1, 2, 2]
    assert nodes.SaveEmbedding.fingerprint_inputs(name="dog") == 0


def test_a_link_to_nowhere_has_its_name(nodes, fake_host, word):
    (fake_host.embeddings / "cat.safetensors").symlink_to(fake_host.embeddings / "gone" / "dog.safetensors")
    assert nodes.SaveEmbedding.execute(word, "cat").args[1] == "embedding:cat-2"
    assert (fake_host.embeddings / "cat.safetensors").is_symlink() and not (fake_host.embeddings / "gone").exists()


def test_the_same_name_in_another_folder_is_pointed_out(nodes, fake_host, word):
    nodes.SaveEmbedding.execute(word, "a/cat")
    assert "Warning" in nodes.SaveEmbedding.execute(word, "b/cat").args[2]


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the disk is read-only"), (errno.EACCES, "not allowed")],
)
def test_a_disk_that_refuses_is_one_sentence(nodes, fake_host, word, monkeypatch, code, reason):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(importlib.import_module("ti_plugin.ti_engine.files.atomic"), "_write", refuse)
    with pytest.raises(ValueError, match=rf"^cat.safetensors could not be written, because .*{reason}\. Cure .*memory"):
        nodes.SaveEmbedding.execute(word, "cat")
    assert not list(fake_host.embeddings.glob("**/*.safetensors"))


def test_a_file_in_the_place_of_a_folder_is_one_sentence(nodes, fake_host, word):
    (fake_host.embeddings / "pets").write_text("")
    with pytest.raises(ValueError, match=r"a part of its path is a file and not a folder\. Cure that or choose"):
        nodes.SaveEmbedding.execute(word, "pets/cat")


def test_an_overwritten_file_is_read_again(nodes, fake_host, word):
    nodes.SaveEmbedding.execute(word, "cat")
    before = nodes.LoadEmbedding.fingerprint_inputs("cat.safetensors", "")
    assert before == nodes.LoadEmbedding.fingerprint_inputs("cat.safetensors", "")
    (fake_host.embeddings / "cat.safetensors").write_bytes(b"other")
    assert before != nodes.LoadEmbedding.fingerprint_inputs("cat.safetensors", "")


def test_a_file_that_is_gone_is_one_sentence(nodes):
    with pytest.raises(ValueError, match=r"no embedding 'gone\.safetensors'"):
        nodes.LoadEmbedding.execute("gone.safetensors")
