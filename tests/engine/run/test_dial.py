"""The dial along a run: through its states, by the losses on its fixed set."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toy_runs import toy_run

from ti_engine import TokenEmbedding, TrainRecord
from ti_engine.run.dial import along_trajectory, steps_of
from ti_engine.run.folder import SavedRun
from ti_engine.run.pick import pick_word
from ti_engine.word.dial import Dialled, dial_lines, path_through

KEY = "ab" * 16
STEPS = 12


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SavedRun:
    root = tmp_path_factory.mktemp("runs")
    return toy_run(root, KEY, steps=STEPS, evaluate_every=1, initial_words="ball", learning_rate=0.05)


def dialled(saved: SavedRun, position: float, steps: range | None = None) -> Dialled:
    word = pick_word(saved, steps)
    return along_trajectory(saved.record, steps_of(saved, word), word, position, "ball")


def rows(one: Dialled) -> Tensor:
    return one.word.vectors["clip_l"]


def test_the_ends_are_the_start_of_the_run_and_its_word_to_the_bit(saved: SavedRun) -> None:
    assert torch.equal(rows(dialled(saved, 0)), saved.record.trajectory[0]["clip_l"])
    assert torch.equal(rows(dialled(saved, 1)), saved.record.embedding().vectors["clip_l"])


def test_a_picked_step_is_an_end_too(saved: SavedRun) -> None:
    end = dialled(saved, 1, range(5, 6))
    assert torch.equal(rows(end), saved.record.trajectory[5]["clip_l"])
    assert 0 < end.looked_at <= 4


def test_the_share_of_the_loss_never_falls_along_the_dial(saved: SavedRun) -> None:
    """At every step that was looked at, the dial reaches it at the share of the fall that its loss is."""
    record, steps = saved.record, range(STEPS, STEPS + 1)
    losses = record.evaluations
    fall = {step: (losses[0] - loss) / (losses[0] - losses[STEPS]) for step, loss in losses.items()}
    best, rising = 0.0, []
    for step in range(1, STEPS):
        if best < fall[step] < 1:
            best = fall[step]
            rising.append(step)
    assert len(rising) >= 3
    for step in rising:
        assert torch.allclose(rows(dialled(saved, fall[step], steps)), record.trajectory[step]["clip_l"], atol=1e-6)
    places = [dialled(saved, number / 50, steps).place for number in range(51)]
    assert places == sorted(places)


def test_the_way_has_no_jumps(saved: SavedRun) -> None:
    """Between two positions it moves as much farther as they are farther apart."""

    def farthest(count: int) -> float:
        points = [rows(dialled(saved, number / count)) for number in range(count + 1)]
        return max(float((a - b).norm()) for a, b in pairwise(points))

    assert farthest(4000) < farthest(400) / 5


def test_without_losses_on_the_way_it_is_the_share_of_the_way(saved: SavedRun) -> None:
    ends = {step: saved.record.sample_losses[step] for step in (0, STEPS)}
    record = replace(saved.record, sample_losses=ends)
    word = pick_word(saved, None)
    half = along_trajectory(record, steps_of(saved, word), word, 0.5)
    assert (half.place, half.looked_at) == (0.5, 0)
    assert "Not calibrated: 50% is a share of the way" in "\n".join(dial_lines(half))
    assert half.why_not == "no losses are known between the two ends"
    calibrated = "\n".join(dial_lines(dialled(saved, 0.5)))
    assert "Calibrated: 50% of the fall of the loss" in calibrated and "from the start of its run (0)" in calibrated


def test_a_word_that_is_worse_than_its_start_is_not_calibrated(saved: SavedRun) -> None:
    worse = {**saved.record.sample_losses, 0: saved.record.sample_losses[0] * 0}
    record = replace(saved.record, sample_losses=worse)
    word = pick_word(saved, None)
    half = along_trajectory(record, steps_of(saved, word), word, 0.5)
    assert half.looked_at == 0 and "is no lower than that at the start of the run" in dial_lines(half)[-2]


def test_a_run_that_was_killed_does_not_know_the_loss_of_its_word(tmp_path: Path) -> None:
    killed = toy_run(tmp_path, KEY, until=5, steps=STEPS, evaluate_every=2)
    half = dialled(killed, 0.5)
    assert half.looked_at == 0 and half.why_not.startswith("the loss of the ")
    assert half.why_not.endswith(" is not known")


def test_a_step_that_nobody_looked_at_has_no_loss(tmp_path: Path) -> None:
    half = dialled(toy_run(tmp_path, KEY, steps=6, evaluate_every=2), 0.5, range(3, 4))
    assert (half.looked_at, half.why_not) == (0, "the loss of the vectors after step 3 is not known")


def test_losses_outside_of_the_fall_are_no_calibration(saved: SavedRun) -> None:
    losses = saved.record.sample_losses
    ends = {0: losses[0], 3: losses[0] * 2, STEPS: losses[STEPS]}
    word = pick_word(saved, None)
    half = along_trajectory(replace(saved.record, sample_losses=ends), steps_of(saved, word), word, 0.5)
    assert (half.looked_at, half.place) == (0, 0.5)
    assert "no loss that is known on the way lies between those of the two ends" in dial_lines(half)[-2]


def test_two_encoders_move_together() -> None:
    states = [
        {"clip_l": torch.randn(2, 4, generator=g), "clip_g": torch.randn(2, 3, generator=g)}
        for g in [torch.Generator().manual_seed(3)]
        for _ in range(3)
    ]
    record = TrainRecord("S*", dict(enumerate(states)), [1.0, 0.5])
    learned = TokenEmbedding(states[2])
    path, _ = path_through(states)
    at = along_trajectory(record, range(2, 3), learned, path.places[1])
    for key, vectors in states[1].items():
        assert torch.equal(at.word.vectors[key], vectors)


def test_a_thinned_run_has_a_way_too(saved: SavedRun) -> None:
    record = saved.record.thinned(4)
    word = pick_word(saved, None)
    thin = [along_trajectory(record, steps_of(saved, word), word, p).word.vectors["clip_l"] for p in (0, 1)]
    assert torch.equal(thin[0], saved.record.trajectory[0]["clip_l"]) and torch.equal(thin[1], word.vectors["clip_l"])


def test_what_is_not_of_the_run_is_one_sentence(saved: SavedRun, tmp_path: Path) -> None:
    word = pick_word(saved, None)
    other = toy_run(tmp_path, "cd" * 16, steps=3)
    for stranger in (TokenEmbedding(word.vectors), pick_word(other, None)):
        with pytest.raises(ValueError, match=f"is not a word of the run {KEY}"):
            steps_of(saved, stranger)
    with pytest.raises(ValueError, match="is the start of its run"):
        steps_of(saved, pick_word(saved, range(0, 1)))
    two = TokenEmbedding({"clip_l": word.vectors["clip_l"].repeat(2, 1)})
    with pytest.raises(ValueError, match="has other vectors than its run"):
        along_trajectory(saved.record, range(5, 6), two, 0.5)
    with pytest.raises(ValueError, match="from 0"):
        dialled(saved, -0.1)
