"""What the nodes say of a run on disk."""

from __future__ import annotations

import importlib
import re

import pytest
from toy_runs import toy_run

RUN_ID = "ab" * 16
PLACE = f"textual_inversion/{RUN_ID} of the output folder"


@pytest.fixture
def report(nodes, tmp_path):
    """Reports a run of 6 steps, or of its first `until`."""
    module = importlib.import_module("ti_plugin.nodes.shown.run_report")

    def make(until=None, about=None, change=None, **settings):
        saved = toy_run(tmp_path, RUN_ID, until, about, steps=6, **settings)
        if change is not None:
            change(saved.record)
        return module.run_report(saved, saved.folder.config(), PLACE, saved.record.embedding())

    return make


def test_a_finished_run(report):
    lines = report().splitlines()
    assert lines[0].startswith("S*: the ") and lines[0].endswith(". The run is finished, with 6 steps.")
    assert lines[1] == "clip_l: 1 vector of width 6."
    assert re.fullmatch(r"Model: toy\. 4 picture\(s\)\. Trained for \d+ s \(\S+ steps a second\)\.", lines[2])
    assert lines[4].startswith("Loss on the fixed evaluation set: ")
    assert lines[-1] == f"Run {RUN_ID}, in the folder {PLACE}."


def test_a_run_that_can_go_on_says_so(report):
    said = report(until=4)
    assert "The run is not finished: 4 of 6 steps. Train Textual Inversion goes on from there if its settings" in said
    assert "Loss on the fixed" not in said  # nobody has looked at the result yet


def test_settings_that_matter_are_shown_and_others_only_where_they_were_changed(report):
    plain = report()
    assert "steps 6" in plain and "seed " in plain and "flip" not in plain
    changed = report(flip=True, evaluate_every=3, preview_every=1)
    assert "flip True" in changed and "evaluate_every" not in changed and "preview_every" not in changed


def test_parent_end_and_warnings(report):
    def change(record):
        record.stopped, record.warnings = "The loss no longer fell.", ["clip_l reads little."]

    lines = report(about={"parent": "cd" * 16}, change=change).splitlines()
    assert "Ended early: The loss no longer fell." in lines
    assert f"It started from a word of the run {'cd' * 16}." in lines
    assert lines[-1] == "Warning: clip_l reads little."
