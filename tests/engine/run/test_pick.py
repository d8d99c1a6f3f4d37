"""Any state of a run is to be had afterwards, as a word that says which it is."""

from pathlib import Path

import pytest
import torch
from toy_runs import toy_run

from ti_engine.files.formats.metadata import training_record
from ti_engine.run.folder import SavedRun
from ti_engine.run.pick import pick_word, spread_steps, steps_between

KEY = "ab" * 16
STEPS = 12


def trained(root: Path, until: int | None = None) -> SavedRun:
    return toy_run(root, KEY, until, about={"captions": ["S* in my garden"]}, steps=STEPS)


@pytest.fixture
def saved(tmp_path: Path) -> SavedRun:
    return trained(tmp_path)


def rows(saved: SavedRun, *steps: int) -> torch.Tensor:
    return torch.stack([saved.record.trajectory[step]["clip_l"] for step in steps]).mean(0)


def test_a_step_is_that_state_to_the_bit(saved: SavedRun) -> None:
    for step in (0, 5, STEPS):
        word = pick_word(saved, range(step, step + 1))
        assert torch.equal(word.vectors["clip_l"], saved.record.trajectory[step]["clip_l"])
        assert word.placeholder == saved.record.placeholder


def test_a_window_is_the_mean_of_its_states(saved: SavedRun) -> None:
    assert torch.equal(pick_word(saved, range(4, 7)).vectors["clip_l"], rows(saved, 4, 5, 6))


def test_without_steps_it_is_what_the_run_returned(saved: SavedRun) -> None:
    word = pick_word(saved, None)
    assert torch.equal(word.vectors["clip_l"], saved.record.embedding().vectors["clip_l"])


def test_the_word_says_which_run_and_which_steps(saved: SavedRun) -> None:
    record = training_record(pick_word(saved, range(4, 7)).metadata)
    assert (record["run"], record["returned_steps"], record["steps"]) == (KEY, [4, 6], STEPS)
    assert record["settings"]["steps"] == STEPS and record["num_pictures"] == 4
    assert record["model"] == {"name": "toy", "sha256": None, "fingerprint": "cd" * 32}
    returned = saved.record.returned
    assert training_record(pick_word(saved, None).metadata)["returned_steps"] == [returned[0], returned[-1]]


def test_negative_steps_count_from_the_end(saved: SavedRun) -> None:
    assert steps_between(saved, -1, -1) == range(12, 13)
    assert steps_between(saved, -3, -1) == range(10, 13)
    assert steps_between(saved, 0, -13) == range(0, 1)


@pytest.mark.parametrize(
    ("first", "last", "sentence"),
    [
        (13, 13, "The run has no step 13: its steps go from 0 to 12."),
        (-14, -1, "The run has no step -14: its steps go from 0 to 12."),
        (3, 40, "The run has no step 40: its steps go from 0 to 12."),
        (7, 5, "The window ends at step 5, before its first step, 7."),
    ],
)
def test_steps_that_are_not_there_are_refused(saved: SavedRun, first: int, last: int, sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        steps_between(saved, first, last)
    assert str(error.value) == sentence
    with pytest.raises(ValueError):
        pick_word(saved, range(first, last + 1))


def test_a_cancelled_run_has_the_steps_that_it_made(tmp_path: Path) -> None:
    saved = trained(tmp_path, until=5)
    assert torch.equal(pick_word(saved, range(5, 6)).vectors["clip_l"], rows(saved, 5))
    assert pick_word(saved, None).num_vectors == 1
    with pytest.raises(ValueError, match="from 0 to 5"):
        pick_word(saved, range(6, 7))


def test_states_after_trouble_are_not_to_be_had(saved: SavedRun) -> None:
    saved.record.last_good = 8
    assert steps_between(saved, -1, -1) == range(8, 9)
    with pytest.raises(ValueError, match="from 0 to 8, after which trouble ended it"):
        pick_word(saved, range(9, 10))


def test_a_damaged_config_is_said(saved: SavedRun) -> None:
    saved.folder.config_file.write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        pick_word(saved, None)


@pytest.mark.parametrize(
    ("count", "steps"), [(0, []), (1, [12]), (2, [0, 12]), (4, [0, 4, 8, 12]), (50, list(range(13)))]
)
def test_steps_are_spread_evenly(saved: SavedRun, count: int, steps: list[int]) -> None:
    assert spread_steps(saved, count) == steps
