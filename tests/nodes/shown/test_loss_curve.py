"""The numbers that the chart in the page and the picture of it draw."""

from __future__ import annotations

import importlib
import json
import math

import pytest
import torch


@pytest.fixture
def curve(nodes):
    return importlib.import_module("ti_plugin.nodes.shown.loss_curve")


@pytest.fixture
def record(nodes):
    """Makes a record of a run from its losses and evaluations."""
    engine = importlib.import_module("ti_plugin.ti_engine")

    def make(losses, evaluations):
        samples = {step: torch.tensor([loss, loss]) for step, loss in evaluations.items()}
        return engine.TrainRecord("S*", {step: {} for step in range(len(losses) + 1)}, losses, samples)

    return make


def test_a_short_run_is_told_point_by_point(curve, record):
    chart = curve.chart_of(record([0.5, 0.3, 0.4], {0: 0.5, 2: 0.25, 3: 0.125}), 9)
    assert chart["batches"] == [(1, 0.5), (2, 0.3), (3, 0.4)]
    assert [step for step, _ in chart["smoothed"]] == [1, 2, 3]
    assert chart["evaluations"] == [(0, 0.5), (2, 0.25), (3, 0.125)]
    assert (chart["step"], chart["steps"], chart["result"]) == (3, 9, None)


def test_the_result_is_told_once_it_is_chosen(curve, record):
    run = record([0.5, 0.3, 0.4, 0.2], {0: 0.5})
    run.candidate_losses = {run.returned: torch.tensor([0.25, 0.75])}
    result = curve.chart_of(run, 9)["result"]
    assert result["loss"] == 0.5 and result["steps"] == [run.returned[0], run.returned[-1]] and result["states"]
    run.candidate_losses = {run.returned: torch.tensor([math.nan, 0.75])}
    assert curve.chart_of(run, 9)["result"] is None


def test_before_training_there_is_nothing(nodes, curve):
    engine = importlib.import_module("ti_plugin.ti_engine")
    chart = curve.chart_of(engine.TrainRecord("S*"), 9)
    assert (chart["step"], chart["batches"], chart["result"]) == (-1, [], None)


@pytest.mark.parametrize("losses", [[0.5, math.nan, math.inf, 0.3], [math.nan]])
def test_what_is_no_number_is_left_out(curve, record, losses):
    text = json.dumps(curve.chart_of(record(losses, {0: math.nan}), 9), allow_nan=False)
    assert json.loads(text)["evaluations"] == []


def test_a_long_run_stays_small_and_keeps_its_range_of_steps_and_its_mean(curve, record):
    losses = [1 + (i % 2) for i in range(100_000)]
    chart = curve.chart_of(record(losses, dict.fromkeys(range(0, 100_001, 10), 0.5)), 100_000)
    assert max(len(chart[name]) for name in ("batches", "smoothed", "evaluations")) <= curve.MOST_POINTS
    assert chart["batches"][-1][0] == 100_000
    assert all(1.4 < loss < 1.6 for _, loss in chart["batches"])


def test_smoothing_keeps_a_constant_and_is_not_pulled_towards_zero_at_its_start(curve):
    assert all(abs(loss - 3) < 1e-12 for _, loss in curve.smoothed([(i, 3.0) for i in range(50)]))
    assert curve.smoothed([]) == []


def test_smoothing_forgets(curve):
    points = [(i, 0.0 if i < 50 else 1.0) for i in range(100)]
    smooth = dict(curve.smoothed(points))
    assert 0 < smooth[51] < smooth[60] < smooth[99] and smooth[99] > 0.99
