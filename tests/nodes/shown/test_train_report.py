"""Sentences of the Train node's report."""

from __future__ import annotations

import importlib

import pytest


@pytest.mark.parametrize(
    ("steps", "warnings"),
    [
        ([], []),
        ([4], ["There was no memory for the preview at step 4."]),
        ([0, 4], ["There was no memory for the previews at steps 0 and 4."]),
        (range(0, 100, 10), ["There was no memory for the previews at steps 0, 10, 20, 30, 40 and 5 more."]),
    ],
)
def test_previews_that_memory_did_not_hold_are_listed(nodes, steps, warnings):
    missing_previews = importlib.import_module("ti_plugin.nodes.shown.train_report").missing_previews
    assert missing_previews(steps) == warnings
