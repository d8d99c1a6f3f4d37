"""Cosines: against written-out sums, and the properties that the scores rely on."""

from __future__ import annotations

import pytest
import torch

from ti_engine.evaluation.cosines import cosine_of_mean, pairwise_cosines, patch_likeness


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_pairwise_cosines_are_those_of_every_pair() -> None:
    rows, columns = torch.randn(4, 7), torch.randn(3, 7) * 100
    for n, row in enumerate(rows):
        for m, column in enumerate(columns):
            cosine = float(row @ column / (row.norm() * column.norm()))
            assert float(pairwise_cosines(rows, columns)[n, m]) == pytest.approx(cosine, abs=1e-6)


def test_the_papers_average_is_the_mean_of_cosines_divided_by_the_length_of_the_mean() -> None:
    pictures, text = torch.randn(8, 5) + 1, torch.randn(5) + 1
    units = torch.nn.functional.normalize(pictures.double(), dim=1)
    mean = float(pairwise_cosines(pictures, text[None]).mean())
    assert cosine_of_mean(pictures, text) == pytest.approx(mean / float(units.mean(0).norm()))
    assert cosine_of_mean(pictures, text) > mean > 0


def test_patch_likeness_is_its_formula() -> None:
    rows, columns = torch.randn(2, 5, 6), torch.randn(3, 4, 6)
    a, b = torch.nn.functional.normalize(rows[1], dim=1), torch.nn.functional.normalize(columns[2], dim=1)
    there = sum(max(float(x @ y) for y in b) for x in a) / 5
    back = sum(max(float(x @ y) for x in a) for y in b) / 4
    assert float(patch_likeness(rows, columns)[1, 2]) == pytest.approx((there + back) / 2, abs=1e-6)


def test_patch_likeness_is_symmetric_one_for_itself_and_blind_to_places() -> None:
    rows, columns = torch.randn(3, 9, 6), torch.randn(2, 9, 6)
    assert torch.allclose(patch_likeness(rows, columns), patch_likeness(columns, rows).T)
    assert torch.allclose(patch_likeness(rows, rows).diagonal(), torch.ones(3).double(), atol=1e-6)
    moved = rows[:, torch.randperm(9)]
    assert torch.allclose(patch_likeness(moved, columns), patch_likeness(rows, columns))


def test_a_part_that_only_one_picture_has_lowers_patch_likeness() -> None:
    whole = torch.eye(9)[None]
    body = whole[:, :8]
    assert float(patch_likeness(whole, body)) == pytest.approx((8 / 9 + 1) / 2)
    assert float(patch_likeness(body, whole)) == pytest.approx((8 / 9 + 1) / 2)
