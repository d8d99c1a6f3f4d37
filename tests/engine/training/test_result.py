"""Which vectors a run returns, and when it ends early."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from toy import ToyBackend, hidden_set, hidden_word, noisy_set, run, toy_config

from ti_engine import TokenEmbedding, TrainRecord
from ti_engine.training.result import candidate_states, choose_states, describe_states, plan_cool_down, window_ends


def losses(*means: float) -> dict[range, torch.Tensor]:
    """Of the two candidates after four updates."""
    return {steps: torch.full((16,), mean) for steps, mean in zip(candidate_states(4), means, strict=True)}


def test_the_candidates_are_the_second_half_and_the_last_state():
    assert candidate_states(4) == (range(3, 5), range(4, 5))
    assert candidate_states(5) == (range(3, 6), range(5, 6))
    assert candidate_states(1) == (range(1, 2), range(1, 2))
    assert candidate_states(0) == (range(0, 1), range(0, 1))


@pytest.mark.parametrize(
    ("looked", "returned"),
    [
        (losses(1.0, 2.0), range(3, 5)),
        (losses(2.0, 1.0), range(4, 5)),
        (losses(1.0, 1.0), range(3, 5)),
        ({range(3, 5): torch.linspace(1, 2, 16), range(4, 5): torch.linspace(0, 2.9, 16)}, range(3, 5)),
        ({range(3, 5): torch.linspace(1, 2, 16), range(4, 5): torch.linspace(0.5, 1.9, 16)}, range(4, 5)),
        (losses(math.nan, 1.0), range(4, 5)),
        (losses(1.0, math.nan), range(3, 5)),
        ({}, range(3, 5)),
    ],
)
def test_the_candidate_with_the_lower_loss_is_returned(looked, returned):
    rows = {step: {"clip_l": torch.full((1, 2), float(step))} for step in range(5)}
    record = TrainRecord("S*", rows, [1.0] * 4, candidate_losses=looked)
    assert choose_states(4, looked) == record.returned == returned
    assert float(record.embedding().vectors["clip_l"][0, 0]) == sum(returned) / len(returned)
    assert float(record.embedding(2).vectors["clip_l"][0, 0]) == 2


def test_states_that_gave_no_number_are_not_averaged():
    rows = {step: {"clip_l": torch.full((1, 2), float(step))} for step in range(5)}
    record = TrainRecord("S*", rows, [1.0] * 4, last_good=3)
    assert record.returned == range(2, 4)


def test_a_run_compares_both_candidates_and_returns_the_better_one():
    record = run(toy_config(steps=40, learning_rate=0.05, schedule="constant"))
    average, last = (record.candidate_losses[steps].mean() for steps in candidate_states(40))
    assert record.result_loss == pytest.approx(min(float(average), float(last)))
    assert record.evaluations[40] == pytest.approx(float(last))


def test_the_mean_is_better_than_the_states_of_a_hot_run():
    """At a constant rate that is too high, on draws that the run has never seen."""
    backend = ToyBackend()
    record = run(toy_config(steps=300, learning_rate=0.05, schedule="constant", early_stop=False), backend, hidden_set)
    hidden = hidden_word(backend)["clip_l"]
    distance = float((record.embedding().vectors["clip_l"] - hidden).norm())
    states = [float((state["clip_l"] - hidden).norm()) for state in list(record.trajectory.values())[150:]]
    assert distance < sum(states) / len(states)
    assert len(record.returned) == 150


def test_a_short_run_that_still_moves_returns_its_last_state():
    record = run(toy_config(steps=20, learning_rate=0.0005, warmup_steps=0, schedule="constant"), make_set=hidden_set)
    assert record.returned == range(20, 21)


@pytest.mark.parametrize(
    ("steps", "early_stop", "ends"), [(150, True, []), (400, True, [100, 200, 300]), (400, False, [])]
)
def test_windows_end_where_a_cool_down_can_still_save_updates(steps, early_stop, ends):
    config = toy_config(steps=steps, early_stop=early_stop)
    assert [step for step in range(1, steps + 1) if window_ends(config, step)] == ends


def test_a_loss_that_falls_by_more_than_its_standard_error_goes_on():
    config, before = toy_config(steps=1000), torch.linspace(1, 2, 16)
    wobble = torch.tensor([-0.1, 0.1] * 8)
    assert plan_cool_down(config, 200, before, before - 0.05 + wobble) is None
    assert plan_cool_down(config, 200, before, before - 0.01 + wobble) == (201, 250)
    assert plan_cool_down(config, 200, before, before + 0.05) == (201, 250)
    assert plan_cool_down(config, 100, None, before) is None
    assert plan_cool_down(config, 900, before, before) is None  # a quarter more would be beyond the last step


@pytest.mark.parametrize("evaluate_every", [0, 1, 50])
def test_a_run_that_has_learned_everything_cools_down_and_ends(evaluate_every):
    backend = ToyBackend()
    start = TokenEmbedding(hidden_word(backend))
    config = toy_config(steps=1000, learning_rate=0.01, schedule="constant", evaluate_every=evaluate_every)
    record = run(config, backend, hidden_set, start)
    assert len(record.losses) == 250
    assert "no longer fell after step 200" in (record.stopped or "")
    states = record.trajectory.values()
    moves = [float((b["clip_l"] - a["clip_l"]).norm()) for a, b in itertools.pairwise(states)]
    assert sum(moves[240:]) < 0.3 * sum(moves[190:200])
    everything = run(replace(config, early_stop=False, steps=300), backend, hidden_set, start)
    assert len(everything.losses) == 300
    assert everything.stopped is None


def test_a_run_that_still_learns_is_not_cut_short():
    record = run(toy_config(steps=400, learning_rate=0.0003, schedule="constant", warmup_steps=0), make_set=hidden_set)
    assert len(record.losses) == 400 and record.stopped is None


def test_a_sentence_names_the_states():
    assert describe_states(range(7, 8)) == "the vectors after step 7"
    assert describe_states(range(76, 151)) == "the mean of the vectors after steps 76 to 150"


def test_a_caller_that_stops_gets_the_mean_of_the_second_half_so_far():
    from ti_engine import train

    backend = ToyBackend()
    steps = train(backend, noisy_set(backend), toy_config())
    step = next(step for step in steps if step.index == 10)
    steps.close()
    assert step.record.returned == range(6, 11)
