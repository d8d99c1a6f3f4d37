import unicodedata

import pytest
import torch

from ti_engine import TokenEmbedding
from ti_engine.word.placeholder import (
    MAX_LENGTH,
    check_placeholder,
    split_at_placeholder,
    usable_placeholder,
    where_else,
    with_placeholder,
)

_ROWS = torch.ones(1, 768)


@pytest.mark.parametrize(
    ("text", "placeholder", "parts"),
    [
        ("a photo of S*", "S*", ["a photo of ", ""]),
        ("S*, a cat", "S*", ["", ", a cat"]),
        ("(S*:1.2) and S*'s hat.", "S*", ["(", ":1.2) and ", "'s hat."]),
        ("S*", "S*", ["", ""]),
        ("US* S*2 S** s* S *", "S*", ["US* S*2 S** s* S *"]),
        ("", "S*", [""]),
        ("cat concatenate cats", "cat", ["", " concatenate cats"]),
        ("a my-cat_2.", "my-cat_2", ["a ", "."]),
        ("* and **", "*", ["", " and **"]),
        ("a.b axb", "a.b", ["", " axb"]),
        ("Ünï Ünïs", "Ünï", ["", " Ünïs"]),
    ],
)
def test_only_whole_words_are_placeholders(text, placeholder, parts):
    assert split_at_placeholder(text, placeholder) == parts
    assert placeholder.join(parts) == text


@pytest.mark.parametrize(
    ("text", "placeholder", "count"),
    [
        ("fox beside embedding:fox-2", "fox", 1),
        ("embedding:den/fox, embedding:fox.v1 (embedding:fox_b:1.2)", "fox", 0),
        ("a embedding:my-fox and embedding:fox", "fox", 1),
        ("(embedding:fox:1.2), embedding:fox, [embedding:fox] embedding:fox.", "fox", 4),
        ("embedding:fox:v2 embedding:fox,dog embedding:foxes", "fox", 0),
        ("embedding:my fox", "fox", 1),
        ("embedding:my fox", "my fox", 1),
        ("<lora:fox:0.8> <red-fox> <fox> <a fox b>", "fox", 0),
        ("a < fox and fox > b", "fox", 2),
        ("I <3 fox", "fox", 1),
        ("<fox>s a<fox><fox>b embedding:<fox>", "<fox>", 4),
        ("<fox-2> <foxes> <fox:1.2> fox", "<fox>", 0),
    ],
)
def test_names_of_other_syntaxes_are_whole(text, placeholder, count):
    parts = split_at_placeholder(text, placeholder)
    assert len(parts) - 1 == count
    assert len("".join(parts)) <= len(text) - count * len(placeholder)


@pytest.mark.parametrize("spelled", ["S*", "fox", "<fox>", "\u72d0", "\uc5ec\uc6b0"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("\u4e00\u5f20", "\u7684\u7167\u7247"),
        ("\u306e", "\u3068"),
        ("\u30fc", "\u30b9"),
        ("\u0e23\u0e39\u0e1b", "\u0e17\u0e35\u0e48"),
        ("\u1780\u17b6", "\u1780"),
        ("\u0e81\u0eb0", "\u0e81"),
        ("\u1019\u102c", "\u1019"),
        ("\uff71", "\uff9e\uff71"),
    ],
)
def test_letters_of_scripts_without_spaces_part_words(before, after, spelled):
    assert split_at_placeholder(f"{before}{spelled}{after}", spelled) == [before, after]


def test_korean_particles_part_words_of_other_scripts_alone():
    assert split_at_placeholder("S*\uc758 \uc0ac\uc9c4", "S*") == ["", "\uc758 \uc0ac\uc9c4"]
    assert len(split_at_placeholder("\uc5ec\uc6b0\ub294", "\uc5ec\uc6b0")) == 1
    assert len(split_at_placeholder("\uac01", "\uac00")) == 1  # a syllable with another one's letters in it


@pytest.mark.parametrize(
    "text", ["US*", "S*2", "S**", "S*x", "_S*", "S*\u0301", "\u0439S*", "S*\u0915", "2\u72d0", "\u72d03"]
)
def test_other_words_stay_other_words(text):
    assert len(split_at_placeholder(text, "\u72d0" if "\u72d0" in text else "S*")) == 1


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("of_text", ["NFC", "NFD"])
@pytest.mark.parametrize("word", ["pi\u00f1ata", "\u1ebf", "\ud55c\uad6d", "\u304c\u304e"])
def test_composed_and_decomposed_letters_are_the_same(word, form, of_text):
    before, after = (unicodedata.normalize(of_text, part) for part in ("\u00fcber ", ", d\u00e9j\u00e0"))
    text = before + unicodedata.normalize(of_text, word) + after
    assert split_at_placeholder(text, unicodedata.normalize(form, word)) == [before, after]
    assert TokenEmbedding({"clip_l": _ROWS}, unicodedata.normalize(form, word)).placeholder == word


@pytest.mark.parametrize(
    ("text", "word"), [("resume\u0301", "resume"), ("x\u0302", "x"), ("\u304b\u3099", "\u304b"), ("\u00e9t", "e")]
)
def test_a_letter_with_a_mark_is_another(text, word):
    assert split_at_placeholder(text, word) == [text]


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("two ", "s", "two S* s"),
        ('"', '".', '"S*".'),
        ("pre", "", "pre S*"),
        ("\u72d0", "\u72d0", "\u72d0S*\u72d0"),
        ("embedding:", "-2", "embedding:S* -2"),
        ("embedding:x", "", "embedding:x S*"),
        ("<", ">", "<S* >"),
    ],
)
def test_a_word_that_is_put_into_a_text_stands_alone(before, after, text):
    assert with_placeholder(before, "S*", after) == text
    assert len(split_at_placeholder(text, "S*")) == 2


def test_where_else_a_word_stands_is_told():
    text = "fox, <lora:fox:1> and embedding:fox-2"
    assert where_else(text, "fox") == (" What stands inside of <lora:fox:1>, embedding:fox-2 belongs to that name.")
    assert where_else("a fox", "fox") == where_else("embedding:dog", "fox") == ""


@pytest.mark.parametrize("length", [MAX_LENGTH, MAX_LENGTH + 1])
def test_a_long_text_is_no_word(length):
    if length <= MAX_LENGTH:
        return check_placeholder("x" * length)
    with pytest.raises(ValueError, match="placeholder has 65 characters, and 64 are allowed"):
        check_placeholder("x" * length)


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        ("S*", "S*"),
        ("my cat", "my cat"),
        ("<cat-toy>", "<cat-toy>"),
        ("my cat, v1.5 (best)", "my-cat-v1.5-best"),
        ("x\ny\x1b[31m", "x-y-31m"),
        ("embedding:x", "embedding-x"),
        ("<a, b>", "a-b"),
        (" S ", "S"),
        ("{(", ""),
        ("<>", ""),
        ("x" * 63 + " y", "x" * 63),
    ],
)
def test_what_a_file_calls_its_word_becomes_what_prompts_can_contain(name, usable):
    assert usable_placeholder(name) == usable
    if usable and usable != name:
        check_placeholder(usable)
