"""Score Images over a scorer whose vectors can be computed by hand: what it gives out, says and refuses."""

from __future__ import annotations

import importlib

import pytest
import torch

HALF = 0.5**0.5


class Colours:
    """A picture is its mean colour, and so is each of its four patches; every text is green."""

    made: list = []  # noqa: RUF012 - what the node has asked for

    def __init__(self, clip_vision, clip=None):
        self.texts = []
        Colours.made.append(self)

    def look(self, pictures):
        patches = [torch.nn.functional.adaptive_avg_pool2d(picture, 2).flatten(1).T for picture in pictures]
        return torch.stack([picture.mean((1, 2)) for picture in pictures]), torch.stack(patches)

    def embed_texts(self, texts):
        self.texts += texts
        return torch.tensor([[0.0, 1.0, 0.0]] * len(texts))


@pytest.fixture
def score(nodes, monkeypatch):
    """Runs the node: inputs by name, the pictures red, green and both, the training pictures red and red."""
    module = importlib.import_module("ti_plugin.nodes.score_images")
    monkeypatch.setattr(module, "HostScorer", Colours)
    monkeypatch.setattr(module, "blocked", lambda sentence: ("blocked", sentence))
    Colours.made = []

    def run(**changes):
        inputs = dict(
            pictures=[batch((1, 0, 0), (0, 1, 0)), batch((1, 1, 0), side=9)],
            training_pictures=[batch((1, 0, 0), (1, 0, 0))],
            clip_vision=[object()],
            text=[""],
            placeholder=["S*"],
        )
        return module.ScoreImages.execute(**{**inputs, **changes})

    return run


def batch(*colours, side=8):
    """IMAGE [B, side, side, 3] of plain pictures."""
    return torch.tensor(colours, dtype=torch.float32)[:, None, None].expand(-1, side, side, -1).clone()


def test_likeness_with_its_ceiling_and_a_list_from_the_most_to_the_least_alike(score):
    output = score()
    report, likeness, text = output.args
    assert likeness == pytest.approx((1 + 0 + HALF) / 3)
    lines = report.splitlines()
    assert lines[0].startswith("Likeness 0.569 (") and "3 picture(s) with 2 training picture(s)" in lines[0]
    assert "the training pictures reach 1.000 among themselves" in lines[0]
    assert [line.split(":")[0].strip() for line in lines if line.startswith("  ")] == [
        "Picture 1",
        "Picture 3",
        "Picture 2",
    ]
    assert text[0] == "blocked" and "write the prompt of the pictures into text" in text[1]
    assert "Warning: Backgrounds count" in report and "held some out" in report
    assert output.ui == {"text": [report]}


def test_the_learned_word_is_taken_out_of_the_text(score):
    report, _, text = score(text=["a photo of S* on a green lawn"], clip=[object()]).args
    assert Colours.made[0].texts == ["a photo of on a green lawn"]
    assert text == pytest.approx((0 + 1 + HALF) / 3)
    assert "S* was taken out of the text" in report and "as the paper averages" in report
    assert "Picture 2: likeness 0.000, patches 0.000, text 1.000" in report
    plain = score(text=["a green\n lawn"], clip=[object()]).args[0]
    assert "taken out" not in plain and Colours.made[1].texts == ["a green lawn"]


def test_a_text_without_a_clip_says_what_is_missing(score):
    report, _, text = score(text=["a lawn"]).args
    assert "For the text score connect clip, the CLIP of an SDXL checkpoint." in report
    assert text[0] == "blocked" and Colours.made[0].texts == []


def test_masks_take_backgrounds_out(score):
    half = batch((1, 0, 0))
    half[:, :, 4:] = 0
    mask = torch.zeros(1, 8, 8)
    mask[:, :, :4] = 1
    once = score(pictures=[half], masks=[mask], training_masks=[mask])
    assert once.args[1] == pytest.approx(1)  # half red, half grey, on both sides
    assert "Warning: Backgrounds" not in once.args[0]
    assert "Only one of the two sides has masks" in score(training_masks=[mask]).args[0]


def test_pictures_with_transparency_are_put_on_white(score):
    clear = torch.zeros(1, 8, 8, 4)
    assert score(pictures=[clear], training_pictures=[batch((1, 1, 1))]).args[1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(text=["S*"]), r"text holds S\* alone"),
        (dict(text=["a <lora:x:1> S*"]), "text holds <lora:x:1>; take it out"),
        (dict(text=["an embedding:cat"]), "text holds embedding:cat"),
        (dict(pictures=[]), "pictures holds no picture"),
        (dict(masks=[torch.ones(2, 8, 8)]), "There are 2 masks for 3 pictures; give one for each, or one for all"),
        (dict(text=["a lawn", "a moon"]), "text is a list of 2 values that differ"),
        (dict(placeholder=["S*", "<cat>"], text=["S* here"]), "placeholder is a list of 2"),
        (dict(clip=[object(), object()], text=["a lawn"]), "clip is a list of 2"),
        (dict(clip_vision=[object(), object()]), "clip_vision is a list of 2"),
        (
            dict(masks=[torch.ones(1, 8, 16).triu()]),
            r"A mask is 16 x 8 pixels, its picture 8 x 8; give it the same shape\.$",
        ),
        (dict(training_masks=[torch.zeros(1, 64, 64)]), "masks of training_pictures cannot be used.*Invert Mask"),
    ],
)
def test_one_sentence(score, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        score(**changes)


def test_a_list_of_equal_values_is_one_value(score):
    assert score(text=["a lawn", "a lawn"], clip=[object()] * 2).args[2] == pytest.approx((0 + 1 + HALF) / 3)


def test_a_long_list_is_cut(score):
    report = score(pictures=[batch(*[(1, 0, 0)] * 70)]).args[0]
    assert "  and 6 more." in report
