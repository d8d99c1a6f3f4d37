"""Fidelity-Editability without a model: along a run, and what it asks for."""

from __future__ import annotations

import importlib

import pytest
import torch

RUN = "ab" * 16


@pytest.fixture
def dial(nodes):
    def run(embedding, position=0.5, path="trajectory", class_word="", **sockets):
        return nodes.Dial.execute(embedding, position, path, class_word, **sockets)

    return run


@pytest.fixture
def record_of():
    def read(word):
        return importlib.import_module("ti_plugin.ti_engine.files.formats.metadata").training_record(word.metadata)

    return read


@pytest.fixture
def run_folder(nodes, tmp_path):
    toy_runs = importlib.import_module("toy_runs")
    saved = toy_runs.toy_run(tmp_path, RUN, steps=8, evaluate_every=2, initial_words="ball")
    return importlib.import_module("ti_plugin.ti_engine.run.folder").RunFolder(saved.folder.path)


@pytest.fixture
def word(run_folder):
    return importlib.import_module("ti_plugin.ti_engine.run.pick").pick_word(run_folder.saved(), None)


def test_the_ends_of_a_run(dial, word, run_folder):
    record = run_folder.saved().record
    assert torch.equal(dial(word, 0.0, run=run_folder).args[0].vectors["clip_l"], record.trajectory[0]["clip_l"])
    assert torch.equal(dial(word, 1.0, run=run_folder).args[0].vectors["clip_l"], word.vectors["clip_l"])


def test_at_1_it_is_the_word_that_was_learned_and_elsewhere_a_new_one(dial, word, run_folder, record_of):
    assert record_of(dial(word, 1.0, run=run_folder).args[0])["run"] == RUN
    changed = dial(word, 0.5, run=run_folder).args[0]
    assert changed.placeholder == "S*"
    assert changed.metadata == {"modelspec.merged_from": "the start of its run (0.5), S* (0.5)"}


def test_the_report_is_shown_and_names_the_class_noun(dial, word, run_folder):
    output = dial(word, 0.5, run=run_folder)
    report = output.args[1]
    assert output.ui == {"text": [report]}
    assert report.startswith("S*: position 0.5 from the start of its run (0)")
    assert "Calibrated: 50% of the fall of the loss" in report and '"S* ball"' in report


def test_a_word_that_was_trained_with_a_noun_keeps_it(nodes, dial, tmp_path):
    toy_runs = importlib.import_module("toy_runs")
    saved = toy_runs.toy_run(tmp_path, RUN, steps=4, class_noun="ball")
    run = importlib.import_module("ti_plugin.ti_engine.run.folder").RunFolder(saved.folder.path)
    word = importlib.import_module("ti_plugin.ti_engine.run.pick").pick_word(run.saved(), None)
    changed, report = dial(word, 0.5, run=run).args
    assert 'In a prompt write "S* ball"' in report
    assert changed.metadata["modelspec.usage_hint"] == word.metadata["modelspec.usage_hint"]


@pytest.mark.parametrize(("path", "sentence"), [("trajectory", "connect run"), ("direction", "connect clip")])
def test_what_a_path_needs_is_asked_for(dial, word, path, sentence):
    with pytest.raises(ValueError, match=sentence):
        dial(word, path=path)


def test_a_word_of_another_run_is_refused(dial, word, run_folder):
    stranger = type(word)(word.vectors)
    with pytest.raises(ValueError, match="is not a word of the run"):
        dial(stranger, run=run_folder)
