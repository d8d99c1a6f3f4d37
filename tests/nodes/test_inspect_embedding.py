"""What a word holds, without a model to compare it with."""

from __future__ import annotations

import importlib

import pytest
import torch


@pytest.fixture
def inspect(nodes):
    engine = importlib.import_module("ti_plugin.ti_engine")

    def run(vectors, **metadata):
        return nodes.InspectEmbedding.execute(engine.TokenEmbedding(vectors, "S*", metadata))

    return run


def test_the_report_has_the_vectors_the_metadata_and_the_warnings(inspect):
    rows = torch.cat([torch.eye(2, 768) * 3, torch.eye(1, 768) * 3])
    output = inspect({"clip_l": rows}, author="somebody", thumbnail="x" * 1000)
    assert output.args[0].splitlines() == [
        "S*:", "clip_l: 3 vectors of width 768.", "It is a word for SD1.", "Norms for clip_l:", "  1: 3", "  2: 3",
        "  3: 3", "author: somebody", "Warning: Vectors 1 and 3 of clip_l are the same.",
    ]  # fmt: skip
    assert output.ui == {"text": [output.args[0]]}


@pytest.mark.parametrize("count", [1, 40, 512])
def test_every_word_can_be_drawn(inspect, count):
    picture = inspect({"clip_l": torch.rand(count, 768), "名前" * 60: torch.rand(1, 4096) * 900}).args[1]
    assert picture.shape == (1, 480, 768, 3) and 0 <= float(picture.min()) < 1 and float(picture.max()) == 1


def test_the_bars_are_as_long_as_the_norms_say(nodes):
    engine = importlib.import_module("ti_plugin.ti_engine")
    plot = importlib.import_module("ti_plugin.nodes.shown.norm_plot").norm_plot
    word = engine.TokenEmbedding({"clip_l": torch.eye(2, 768) * torch.tensor([[1.0], [4.0]])})
    picture = plot(word, {})
    blue = (picture[0, :, :, 2] > 0.6) & (picture[0, :, :, 0] < 0.3)
    low, high = blue[:, :416].sum(dim=0).max(), blue[:, 416:].sum(dim=0).max()
    assert abs(float(high / low) - 4) < 0.2
    assert not torch.equal(picture, plot(word, {"clip_l": 2.0}))
