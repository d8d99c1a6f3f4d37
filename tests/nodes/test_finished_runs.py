"""Which changes train anew, and how many runs are remembered."""

from __future__ import annotations

import importlib

import pytest
import torch


@pytest.fixture
def runs(nodes):
    return importlib.import_module("ti_plugin.nodes.finished_runs")


@pytest.fixture
def config(nodes):
    return importlib.import_module("ti_plugin.ti_engine").TrainConfig


PICTURES = [torch.linspace(0, 1, 3 * 8 * 8).reshape(3, 8, 8), torch.zeros(3, 4, 8)]


def test_what_does_not_change_the_vectors_does_not_change_the_key(runs, config):
    key = runs.run_key("models", PICTURES, ["a photo of S*", None], config())
    assert key == runs.run_key("models", PICTURES, ["a photo of S*", None], config(preview_every=7))
    assert key == runs.run_key("models", PICTURES, ["a photo of cat*", None], config(placeholder="cat*"))
    assert key == runs.run_key("models", PICTURES, ["a photo of {}", None], config(placeholder="S2*"))


def test_templates_count_by_the_texts_around_the_word(runs, config):
    def key(*templates, **changes):
        return runs.run_key("models", PICTURES, [], config(what="custom", templates=templates, **changes))

    assert key("a S*", "b {}") == key("a X", "b [name]", placeholder="X")
    assert key("a S*", "b {}") != key("a S*", "c {}")


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 151},
        {"seed": 1},
        {"learning_rate": 0.02},
        {"initial_words": "cat"},
        {"num_vectors": 2},
        {"flip": True},
    ],
)
def test_what_changes_the_vectors_changes_the_key(runs, config, changes):
    assert runs.run_key("m", PICTURES, [], config()) != runs.run_key("m", PICTURES, [], config(**changes))


def test_pictures_captions_and_models_change_the_key(runs, config):
    key = runs.run_key("m", PICTURES, ["S* a", None], config())
    other_pixel = [PICTURES[0].clone(), PICTURES[1]]
    other_pixel[0][0, 0, 0] = 0.5
    for other in (
        runs.run_key("other", PICTURES, ["S* a", None], config()),
        runs.run_key("m", PICTURES, ["S* b", None], config()),
        runs.run_key("m", PICTURES, [None, "S* a"], config()),
        runs.run_key("m", PICTURES, [], config()),
        runs.run_key("m", other_pixel, ["S* a", None], config()),
        runs.run_key("m", PICTURES[::-1], ["S* a", None], config()),
        runs.run_key("m", [PICTURES[0], PICTURES[1].reshape(3, 8, 4)], ["S* a", None], config()),
    ):
        assert other != key


def test_models_that_cannot_be_told_from_others_are_never_remembered(runs, config):
    assert runs.run_key(None, PICTURES, [], config()) is None
    finished = runs.FinishedRuns()
    finished.keep(None, run_of(runs))
    assert finished.get(None) is None


def test_only_the_last_runs_are_kept(runs):
    finished = runs.FinishedRuns()
    for number in range(10):
        finished.keep(str(number), run_of(runs))
    assert finished.get("9") is not None and finished.get("0") is None


def test_a_run_that_trouble_ended_is_tried_again(runs):
    finished = runs.FinishedRuns()
    finished.keep("key", run_of(runs, last_good=3, stopped="There was no memory for step 4."))
    assert finished.get("key") is None
    finished.keep("key", run_of(runs, stopped="The loss on the fixed evaluation set has not fallen since step 3."))
    assert finished.get("key") is not None


def run_of(runs, **facts):
    record = importlib.import_module("ti_plugin.ti_engine").TrainRecord("S*", **facts)
    return runs.FinishedRun(record, {}, "", "", 0.0)
