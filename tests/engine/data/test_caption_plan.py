"""Which caption belongs to which picture."""

from __future__ import annotations

import unicodedata

import pytest

from ti_engine import TrainConfig
from ti_engine.data.caption_plan import plan_captions

DEFAULTS = {name: getattr(TrainConfig(), name) for name in ("what", "caption_lines", "templates")}
NAMES = ["1.png", "2.png", "10.png"]


def plan(lines, names=NAMES, beside=(), **settings):
    return plan_captions(lines, names, beside, **{**DEFAULTS, **settings})


def own(lines, names=NAMES, beside=(), **settings):
    return list(plan(lines, names, beside, **settings).own)


def test_lines_belong_to_the_pictures_in_their_order():
    assert own(["a S*", "b S*", "c S*"]) == ["a S*", "b S*", "c S*"]
    assert own(["a S*", "", "c S*"]) == ["a S*", None, "c S*"]
    assert own([]) == own(["", ""]) == []


@pytest.mark.parametrize("empty", [[], [""], ["", " ", "\t"]])
@pytest.mark.parametrize("what", ["object", "style", "custom"])
def test_empty_lines_at_the_end_do_not_count(empty, what):
    assert own(["a S*", "b S*", "c S*", *empty], what=what) == ["a S*", "b S*", "c S*"]


def test_an_empty_line_may_stand_for_the_last_picture():
    assert own(["a S*", "b S*", ""]) == ["a S*", "b S*", None]
    assert own(["a S*", "", "", ""]) == ["a S*", None, None]


@pytest.mark.parametrize("lines", [["a S*", "b S*"], ["a S*"] * 4])
@pytest.mark.parametrize("settings", [{}, {"caption_lines": "paired"}, {"what": "custom", "caption_lines": "paired"}])
def test_another_number_of_lines_is_refused_with_the_ways_out(lines, settings):
    with pytest.raises(ValueError, match=rf"{len(lines)} captions for 3 pictures.*1\.png: .*drawn"):
        plan(lines, **settings)


def test_for_custom_the_number_of_lines_decides_unless_it_is_chosen():
    lines = ["a S*", "b S*", "c S*"]
    paired, drawn = plan(lines, what="custom"), plan(lines, what="custom", caption_lines="drawn")
    assert (paired.own, paired.templates) == (lines, ())
    assert (drawn.own, drawn.templates) == ([], tuple(lines))
    assert "3 of 3" in paired.summary and "order" in paired.summary and "caption_lines" in paired.summary
    assert "draws from" in drawn.summary and "3 captions" in drawn.summary
    more = plan([*lines, "", "d S*"], what="custom")
    assert (more.own, more.templates) == ([], (*lines, "d S*"))
    assert "4 captions" in more.summary


def test_drawn_lines_need_custom():
    with pytest.raises(ValueError, match="caption_lines = drawn goes with what = custom, and what is object"):
        plan(["a S*"], caption_lines="drawn")


def test_captions_given_as_settings_are_drawn_from_too():
    both = plan(["a S*"], what="custom", templates=("t S*",))
    assert both.templates == ("t S*", "a S*") and "2 captions" in both.summary
    some = plan(["a S*", "", ""], what="custom", templates=("t S*",), caption_lines="paired")
    assert some.own == ["a S*", None, None] and "1 of 3" in some.summary and "others draw" in some.summary


@pytest.mark.parametrize("mark", [": ", ":", "\t", " : ", " \t "])
def test_lines_may_name_their_pictures(mark):
    lines = [f"10.png{mark}ten: a S*", "", f"1.png{mark}one S*"]
    assert own(lines) == ["one S*", None, "ten: a S*"]
    assert own(lines, what="custom", templates=("S*",)) == ["one S*", None, "ten: a S*"]
    assert "name" in plan(lines).summary


@pytest.mark.parametrize("name", ["a: b.png", "a.png: b.png", "x y.png", "S*.png", "Picture 2", "x/1.png"])
def test_any_name_may_be_named(name):
    assert own([f"{name}: a S*"], ["first.png", name]) == [None, "a S*"]


def test_names_are_compared_as_they_look():
    composed, apart = (unicodedata.normalize(form, "café.png") for form in ("NFC", "NFD"))
    assert own([f"{composed}: a S*"], ["1.png", apart]) == own([f"{apart}: a S*"], ["1.png", composed])
    assert own([f"{apart}: a S*"], ["1.png", composed]) == [None, "a S*"]


@pytest.mark.parametrize(
    "caption",
    ["photo: a S*", "S*: the best", "1.png is a S*", "11.png S*", "1 png: S*", "http://x: a S*", "at 10:30 a S*"],
)
def test_a_caption_with_a_colon_is_a_caption(caption):
    assert own([caption, caption, caption]) == [caption] * 3


@pytest.mark.parametrize("line", ["3.png: a S*", "1.PNG: a S*", "1.jpg\ta S*", "other name.jpeg : a S*"])
def test_a_picture_that_is_not_there_is_named(line):
    with pytest.raises(ValueError, match=r"begins with the name of a picture that is not there.*1\.png, 2\.png"):
        plan([line, "b S*", "c S*"])
    with pytest.raises(ValueError, match=r"does not begin with the name of a picture, as others do"):
        plan([line, "1.png: b S*"])


def test_what_cannot_be_paired_by_name_is_refused():
    with pytest.raises(ValueError, match=r"Two captions are for 1\.png"):
        plan(["1.png: a S*", "1.png: b S*"])
    with pytest.raises(ValueError, match=r"caption_lines = drawn, and the line .* names its picture"):
        plan(["1.png: a S*", "b S*"], what="custom", caption_lines="drawn")


def test_a_name_without_caption_leaves_the_picture_without():
    assert own(["1.png:", "2.png: b S*", "10.png"]) == [None, "b S*", None]


def test_captions_beside_pictures_are_counted():
    some = plan([], beside=["a S*", None, None])
    assert some.own == ["a S*", None, None]
    assert "1 of 3" in some.summary and "beside" in some.summary and "what = object" in some.summary
    none = plan([], beside=[None] * 3, what="style")
    assert none.own == [] and "No picture" in none.summary and "what = style" in none.summary
    custom = plan([], beside=["a S*", None, None], what="custom", templates=("S*",))
    assert "1 captions for all" in custom.summary


def test_captions_beside_that_are_not_used_are_said():
    lines = ["a S*", "b S*", "c S*"]
    given = plan(lines, beside=["other S*", None, None])
    assert given.own == lines and len(given.warnings) == 1
    assert not plan(lines, beside=[None] * 3).warnings


def test_the_pairs_can_be_shown():
    shown = plan(["a S*", "", "c S*"]).describe(NAMES)
    assert [line.split() for line in shown[1:]] == [
        ["1.png:", "a", "S*"],
        ["2.png:", "(drawn)"],
        ["10.png:", "c", "S*"],
    ]
    assert len(plan([]).describe(NAMES)) == 1
    names = [f"{n}.png" for n in range(30)]
    short = plan(["S*"] * 30, names).describe(names, 4)
    assert len(short) == 6 and "26 more" in short[-1]


def test_filewords_in_captions_for_all():
    names = ["1-red_vase.png", "2.png", "blue vase.jpg"]
    template = "a photo of [name], [filewords]"
    filled = plan([template], names, [None, "on grass", None], what="custom")
    assert list(filled.own) == ["red vase", "on grass", "blue vase"] and filled.templates == (template,)
    assert "1 of 3" in filled.summary and not filled.warnings


def test_filewords_in_a_pictures_own_caption():
    names = ["1-red_vase.png", "2.png", "blue vase.jpg"]
    lines = ["a S*, [filewords]", "b S*, [filewords]", "c S*"]
    assert own(lines, names, [None, "on grass", None]) == ["a S*, red vase", "b S*, on grass", "c S*"]
    assert own([], names, ["S*: [filewords]", None, None]) == ["S*: red vase", None, None]


@pytest.mark.parametrize("name", ["2.png", "003.jpg", "Picture 2", "-_1.png"])
def test_a_picture_that_gives_no_filewords_is_named(name):
    with pytest.raises(ValueError, match=rf"\[filewords\] stands for .*{name} has neither"):
        plan(["[name], [filewords]"], ["vase.png", name, "jug.png"], what="custom")
    with pytest.raises(ValueError, match=rf"{name} has neither"):
        plan(["a S*", "[name], [filewords]"], ["vase.png", name])


def test_without_pictures_there_is_nothing_to_pair():
    assert plan(["a S*"], []).own == []


def test_a_class_noun_is_refused_where_every_picture_has_its_own_caption_and_told_where_some_have():
    with pytest.raises(ValueError, match="every picture has a caption of its own"):
        plan([], beside=["a S*", "b S*", "c S*"], class_noun="heart")
    assert plan(["a S*", "", ""], class_noun="heart").warnings == [
        "1 of 3 pictures have captions of their own; class_noun 'heart' is not put into them."
    ]
    assert plan([], class_noun="heart").warnings == []
