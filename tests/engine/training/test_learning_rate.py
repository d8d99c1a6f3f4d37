import math

import pytest
from toy import toy_config

from ti_engine.method.learning_rate import FINAL_SHARE
from ti_engine.training.loop import learning_rate_factor


def test_the_rate_warms_up_linearly_and_stays_when_constant():
    config = toy_config(steps=20, warmup_steps=4, schedule="constant")
    factors = [learning_rate_factor(config, step) for step in range(1, 21)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(factors[4:]) == {1.0}


def test_the_rate_falls_along_a_cosine_to_5_percent():
    config = toy_config(steps=101, warmup_steps=0)
    factors = [learning_rate_factor(config, step) for step in range(1, 102)]
    assert factors[0] == 1
    assert factors[50] == pytest.approx(0.525)
    assert factors[25] == pytest.approx(0.05 + 0.95 * (1 + math.sqrt(0.5)) / 2)
    assert factors[-1] == pytest.approx(0.05)
    assert factors == sorted(factors, reverse=True)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_run_of_one_step_has_a_rate(schedule):
    assert learning_rate_factor(toy_config(steps=1, warmup_steps=0, schedule=schedule), 1) == 1


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_cool_down_falls_to_its_end_and_never_rises(schedule):
    config = toy_config(steps=1000, warmup_steps=0, schedule=schedule)
    cooled = [learning_rate_factor(config, step, (201, 250)) for step in range(201, 251)]
    before = learning_rate_factor(config, 200)
    assert cooled[-1] == pytest.approx(before * FINAL_SHARE)
    assert [before, *cooled] == sorted([before, *cooled], reverse=True)
    assert all(factor <= learning_rate_factor(config, step) for step, factor in enumerate(cooled, 201))
