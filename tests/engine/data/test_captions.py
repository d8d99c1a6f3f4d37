import re
from collections import Counter

import pytest
import torch

from ti_engine import CaptionSource
from ti_engine.data.captions import OBJECT_TEMPLATES, STYLE_TEMPLATES, fill_slot, templates_for


@pytest.mark.parametrize(
    "template",
    ["a photo of {}", "a photo of [name]", "a photo of S*", "a photo of [trigger]", "a photo of <embedding>"],
)
def test_each_kind_of_slot_takes_the_word(template):
    assert fill_slot(template, "S*") == "a photo of S*"


def test_a_class_noun_stands_behind_the_word_in_every_context():
    templates = templates_for("object", class_noun="heart")
    captions = [fill_slot(text, "S*") for text in templates]
    assert captions == [fill_slot(text, "S*") + " heart" for text in OBJECT_TEMPLATES]


@pytest.mark.parametrize(
    ("template", "caption"),
    [
        ("two {}s", "two S* s"),
        ("my{}", "my S*"),
        ('a "{}".', 'a "S*".'),
        ("\u4e00\u53ea{}\u7684\u7167\u7247", "\u4e00\u53eaS*\u7684\u7167\u7247"),
        ("{}{} and {}2", "S* S* and S* 2"),
        ("<[name]>", "<S* >"),
    ],
)
def test_a_slot_is_where_the_word_goes_whatever_stands_beside_it(template, caption):
    assert fill_slot(template, "S*") == caption


def test_a_trigger_in_brackets_touches_what_it_likes():
    assert fill_slot("two {}s of<fox>", "<fox>") == "two <fox>s of<fox>"
    with pytest.raises(ValueError, match="inside of <lora:fox:1> belongs to that name"):
        fill_slot("a <lora:fox:1>", "fox")


def test_the_word_may_be_used_more_than_once():
    assert fill_slot("{} on [name] under S*", "S*") == "S* on S* under S*"


@pytest.mark.parametrize("template", ["a photo of a cat", "", "a photo of { }", "a photo of s*", "US*", "<S*>"])
def test_a_caption_without_the_word_is_refused_with_the_cure(template):
    with pytest.raises(ValueError, match=r"does not contain 'S\*'.*Write S\*, \{\} or \[name\]"):
        fill_slot(template, "S*")


def test_every_template_of_the_paper_takes_the_word_once():
    for template in (*OBJECT_TEMPLATES, *STYLE_TEMPLATES):
        assert fill_slot(template, "S*").count("S*") == 1
    assert len(OBJECT_TEMPLATES) == len(set(OBJECT_TEMPLATES)) == 27
    assert len(STYLE_TEMPLATES) == 19


def test_templates_belong_to_the_setting():
    assert templates_for("object") is OBJECT_TEMPLATES
    assert templates_for("style") is STYLE_TEMPLATES
    assert templates_for("custom", ["{}"]) == ("{}",)


def test_a_template_is_drawn_anew_each_time_and_all_of_them_equally_often():
    source = CaptionSource("S*", ["{} one", "{} two", "{} three"])
    generator = torch.Generator().manual_seed(0)
    counts = Counter(source.draw(0, generator) for _ in range(3000))
    assert set(counts) == {"S* one", "S* two", "S* three"}
    assert sum((n - 1000) ** 2 / 1000 for n in counts.values()) < 13.8  # chi-square, 2 degrees of freedom, p = 0.001


def test_a_picture_with_a_caption_of_its_own_always_uses_it():
    source = CaptionSource("S*", ["{} shared"], [None, "own of {}", "own of {}"])
    generator = torch.Generator().manual_seed(0)
    assert {source.draw(1, generator) for _ in range(20)} == {"own of S*"}
    assert {source.draw(2, generator) for _ in range(20)} == {"own of S*"}
    assert source.draw(0, generator) == "S* shared"


def test_own_captions_alone_are_enough():
    source = CaptionSource("S*", [], ["a {}", "b {}"])
    assert source.draw(1, torch.Generator()) == "b S*"


@pytest.mark.parametrize("own", [(), (None,), ("a {}", None)])
def test_custom_without_templates_needs_a_caption_for_every_picture(own):
    with pytest.raises(ValueError, match=r"what = custom .* captions of your own"):
        CaptionSource("S*", [], own)


def test_an_own_caption_without_the_word_is_refused():
    with pytest.raises(ValueError, match="'my cat' does not contain"):
        CaptionSource("S*", ["{}"], ["a {}", "my cat"])


def test_all_are_those_that_can_be_drawn():
    templates = ["a {}", "the {}", "a {}"]
    assert CaptionSource("S*", templates).all() == ["a S*", "the S*"]
    assert CaptionSource("S*", templates, ["my S*", None]).all() == ["my S*", "a S*", "the S*"]
    assert CaptionSource("S*", templates, ["my S*", "your S*"]).all() == ["my S*", "your S*"]


SLOTS_OF_NOTHING = [
    "[class]",
    "[instance]",
    "{trigger}",
    "{0}",
    "{red|blue}",
    "<token>",
    "<lora:x:1>",
    "<cat-toy>",
    "{ }",
]


@pytest.mark.parametrize("slot", SLOTS_OF_NOTHING)
@pytest.mark.parametrize("own", [True, False])
def test_slots_of_other_programs_are_refused_by_name(slot, own):
    text = f"a S* and a {slot}"
    with pytest.raises(ValueError, match=re.escape(f"holds {slot}, which stands for nothing here")):
        CaptionSource("S*", [] if own else [text], [text] if own else [])


@pytest.mark.parametrize("text", ["S* <3", "S* [a b]", "S* a < b > c", "[S*] beside", "S* [", "S* )}"])
def test_other_brackets_are_text(text):
    assert CaptionSource("S*", [text]).all() == [text]


def test_filewords_are_each_pictures_own():
    source = CaptionSource(
        "S*", ["[name], [filewords]", "a {} is [filewords]", "S* alone"], ["on grass", "a {} in rain"]
    )
    generator = torch.Generator().manual_seed(0)
    first, second = ({source.draw(picture, generator) for _ in range(60)} for picture in (0, 1))
    assert first == {"S*, on grass", "a S* is on grass", "S* alone"}
    assert second == {"S*, a S* in rain", "a S* is a S* in rain", "S* alone"}
    assert set(source.all()) == first | second and len(source.all()) == 5


@pytest.mark.parametrize("own", [(), (None,), ("on grass", None), ("with [filewords]",)])
def test_filewords_that_nothing_gives_are_refused_by_name(own):
    with pytest.raises(ValueError, match=r"holds \[filewords\]"):
        CaptionSource("S*", ["{}, [filewords]"], own)
    with pytest.raises(ValueError, match=r"holds \[filewords\]"):
        CaptionSource("S*", ["{}"], ["{}, [filewords]"])


@pytest.mark.parametrize("text", ["S* (fate)", r"S* \(fate\)", r"S* \(fate)"])
def test_parentheses_are_literal(text):
    assert CaptionSource("S*", [text]).all() == CaptionSource("S*", [], [text]).all() == ["S* (fate)"]


@pytest.mark.parametrize("own", [(), (None,), ("a {}", None)])
def test_the_error_without_captions_names_nothing_that_a_node_lacks(own):
    with pytest.raises(ValueError) as error:
        CaptionSource("S*", [], own)
    assert "template" not in str(error.value)
