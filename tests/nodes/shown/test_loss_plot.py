"""The loss curve as a picture, whatever the run looked like."""

from __future__ import annotations

import importlib
import math

import pytest
import torch


@pytest.mark.parametrize(
    ("losses", "evaluations"),
    [
        ([], {}),
        ([], {0: 0.3}),
        ([0.5], {0: 0.4, 1: 0.4}),
        ([0.5, math.nan, 0.3], {0: 0.4}),
        ([1 / (i + 1) for i in range(1000)], {i: 1 / (i + 1) for i in range(0, 1001, 10)}),
    ],
)
def test_every_run_can_be_drawn(nodes, losses, evaluations):
    engine = importlib.import_module("ti_plugin.ti_engine")
    plot = importlib.import_module("ti_plugin.nodes.shown.loss_plot").loss_plot
    samples = {step: torch.tensor([loss]) for step, loss in evaluations.items()}
    picture = plot(engine.TrainRecord("S*", {step: {} for step in range(len(losses) + 1)}, losses, samples))
    assert picture.shape == (1, 432, 768, 3) and 0 <= float(picture.min()) < 1 and float(picture.max()) == 1
