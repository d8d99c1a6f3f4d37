"""Which file `<name>` in a prompt means, and what is no name at all."""

from __future__ import annotations

import importlib

import pytest

FILES = ["a, b. c.pt", "Cat.safetensors", "pets/dog.bin", "pets/Dog.PNG", "sd/pets/owl.pti", "v1.5 Fox.pt", "x/é.pt"]


@pytest.fixture
def named(nodes):
    return importlib.import_module("ti_plugin.nodes.host.text.named_files")


@pytest.fixture
def name_files(named, fake_host):
    """`name_files` over FILES; nothing else has a meaning."""
    for file in FILES:
        (fake_host.embeddings / file).parent.mkdir(parents=True, exist_ok=True)
        (fake_host.embeddings / file).touch()
    return lambda text, placeholders=(), token="": named.name_files(text, placeholders, token.__eq__)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Cat", "Cat.safetensors"),
        ("cat", "Cat.safetensors"),
        ("CAT.SafeTensors", "Cat.safetensors"),
        ("dog", "pets/dog.bin"),
        ("pets/dog", "pets/dog.bin"),
        ("PETS\\Dog", "pets/dog.bin"),
        ("dog.png", "pets/Dog.PNG"),
        ("owl", "sd/pets/owl.pti"),
        ("pets/owl", "sd/pets/owl.pti"),
        ("a, b. c", "a, b. c.pt"),
        ("v1.5 fox", "v1.5 Fox.pt"),
        ("e\N{COMBINING ACUTE ACCENT}", "x/é.pt"),
        ("ca", None),
        ("at", None),
        ("ets/dog", None),
        ("v1", None),
    ],
)
def test_a_name_means_one_file(named, name, file):
    assert named.find_file(name, FILES) == file


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".bin", ".pti", ".png"])
def test_the_hosts_order_of_endings_decides(named, ending):
    order = [".safetensors", ".pt", ".bin", ".pti", ".png", ".webp"]
    files = [f"cat{e}" for e in reversed(order) if order.index(e) >= order.index(ending)]
    assert named.find_file("cat", files) == f"cat{ending}"
    assert named.find_file("cat.webp", files) == "cat.webp"


@pytest.mark.parametrize("files", [["cat.pt", "b/cat.pt"], ["a/Cat.pt", "b/cat.bin"], ["a/cat.pt", "c/b/CAT.pt"]])
def test_one_name_in_two_folders_is_never_chosen(named, files):
    with pytest.raises(ValueError, match=rf"<cat> could be any of {files[0]} and {files[1]}; write .* in full"):
        named.find_file("cat", files)
    assert [named.find_file(file, files) for file in files] == files
    assert named.find_file("b/cat", files[1:]) == files[1]


def test_letters_decide_where_only_they_differ(named):
    files = ["a/Cat.pt", "a/cat.pt"]
    assert [named.find_file(name, files) for name in ("cat", "Cat", "a/Cat")] == ["a/cat.pt", "a/Cat.pt", "a/Cat.pt"]
    with pytest.raises(ValueError, match=r"any of a/Cat\.pt and a/cat\.pt"):
        named.find_file("CAT", files)


def test_names_are_spelled_in_one_way(name_files):
    text, files = name_files("(<cat>:1.2) and <CAT.safetensors>, <a, b. c>\n<Pets/Dog>x<cat><cat>")
    assert files == ["Cat.safetensors", "a, b. c.pt", "pets/dog.bin"]
    cat = "<Cat.safetensors>"
    assert text == f"({cat}:1.2) and {cat}, <a, b. c.pt>\n<pets/dog.bin>x{cat}{cat}"


@pytest.mark.parametrize(
    "text",
    ["", "a photo", "a < b and c > d", "I <3 you", "x <= y >= z", "<- ->", "<>", "< cat >", "<|endoftext|>", "</cat>",
     "<Prompt Start> a cat", "<token>", "< S* >", "<my-word> <cat\n>"],
)  # fmt: skip
def test_other_uses_of_the_signs_stay_as_they_are(name_files, text):
    assert name_files(text, ["S*", "<my-word>"], "<token>") == (text, [])


def test_a_connected_word_goes_before_a_file(name_files):
    assert name_files("<cat>", ["<cat>"]) == ("<cat>", [])
    decomposed = "<e\N{COMBINING ACUTE ACCENT}>"
    assert name_files(decomposed, ["<\u00e9>"]) == (decomposed, [])
    assert name_files("a <cat>", ["cat"]) == ("a <Cat.safetensors>", ["Cat.safetensors"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<cats>", r"no embedding file cats; near it are Cat\.safetensors\. .*put a space behind the <"),
        ("<zzzzzz>", r"no embedding file zzzzzz; there are .* and 2 more"),
        ("<cat:0.8>", r"written \(<cat>:0\.8\)"),
        ("<lora:cat:1>", "would read it as words of the prompt.*a node for LoRAs"),
    ],
)
def test_a_name_without_a_file_is_one_sentence(name_files, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        name_files(f"a {text} b")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<S*>", r"no embedding file S\*; the connected word is written S\*, without < and >"),
        ("<S*-anim>", r"no embedding file S\*-anim; there are"),
        ("<lora:S*:1>", "take it out of the text"),
        ("<my-word-2>", "no embedding file my-word-2"),
        ("<S*:1.2>", r"written \(S\*:1\.2\)"),
        ("<lora:my-word:1>", "take it out of the text"),
    ],
)
def test_a_connected_word_makes_no_unknown_name_known(name_files, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        name_files(f"S* {text} <my-word>", ["S*", "<my-word>"])


def test_no_files_at_all(named, nodes):
    with pytest.raises(ValueError, match="the folders hold none"):
        named.name_files("<cat>", [], lambda _: False)


def test_a_changed_file_changes_the_fingerprint(nodes, name_files, fake_host):
    def prints():
        texts = ("a cat", "a <cat>", "a <dog>", "embedding:Cat, b", "<gone> <cats>", None)
        return [nodes.EncodePrompt.fingerprint_inputs(text=text, clip=None) for text in texts]

    before = prints()
    assert before == prints()
    (fake_host.embeddings / "Cat.safetensors").write_bytes(b"other")
    changed = [a != b for a, b in zip(before, prints(), strict=True)]
    assert changed == [False, True, False, True, False, True]
