"""Bootstrap intervals: seeded, wide where the data vary, and covering the truth about as often as they say."""

from __future__ import annotations

import pytest
import torch

from ti_engine.evaluation.intervals import Estimate, mean_among_themselves, mean_of_pairs, mean_of_prompts


def test_the_mean_of_pairs_resamples_both_sets() -> None:
    torch.manual_seed(0)
    rows = torch.rand(20, 1).double() + torch.zeros(1, 6).double()  # pictures differ, references do not
    columns = torch.zeros(20, 1).double() + torch.rand(1, 6).double()
    for cosines in (rows, columns):
        found = mean_of_pairs(cosines)
        assert found.value == pytest.approx(float(cosines.mean()))
        assert found.low is not None and found.high is not None and found.low < found.value < found.high
    assert mean_of_pairs(rows) == mean_of_pairs(rows)  # the same seed
    assert mean_of_pairs(torch.ones(1, 4)) == Estimate(1.0)


def test_an_interval_of_pairs_covers_the_truth_about_as_often_as_it_says() -> None:
    generator, hits, runs = torch.Generator().manual_seed(0), 0, 60
    for _ in range(runs):
        rows = torch.randn(24, 1, generator=generator, dtype=torch.float64)
        columns = torch.randn(1, 24, generator=generator, dtype=torch.float64)
        found = mean_of_pairs(rows + columns)
        hits += found.low is not None and found.high is not None and found.low <= 0 <= found.high
    assert 0.85 * runs <= hits <= runs


def test_a_set_with_itself_leaves_every_picture_out_of_its_own_pairs() -> None:
    cosines = torch.full((4, 4), 0.5).double()
    cosines.fill_diagonal_(1)
    found = mean_among_themselves(cosines)
    assert found is not None and found.value == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5) and found.high == pytest.approx(0.5)  # doubled pictures are no pairs
    two = mean_among_themselves(cosines[:2, :2])
    assert two is not None and two.value == pytest.approx(0.5) and two.low is None
    assert mean_among_themselves(cosines[:1, :1]) is None


def test_prompts_and_pictures_are_both_resampled() -> None:
    same = [torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0])]  # only prompts differ
    inside = [torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0])]  # only pictures differ
    for prompts in (same, inside):
        found = mean_of_prompts([prompts])
        assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)
    assert mean_of_prompts([[torch.tensor([0.5])]]) == Estimate(0.5)


def test_prompts_are_resampled_within_their_group() -> None:
    apart = mean_of_prompts([[torch.zeros(2)] * 3, [torch.ones(2)] * 3])
    assert (apart.value, apart.low, apart.high) == (0.5, 0.5, 0.5)
    uneven = mean_of_prompts([[torch.zeros(1), torch.zeros(5)], [torch.ones(3)]])
    assert uneven.value == pytest.approx(1 / 3)  # of prompts, not of pictures


def test_an_estimate_as_text() -> None:
    assert str(Estimate(0.12345)) == "0.123"
    assert str(Estimate(0.5, 0.25, 0.75)) == "0.500 (0.250 to 0.750)"
