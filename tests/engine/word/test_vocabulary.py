"""The scale of a vocabulary with rows that no text ever uses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ti_engine.training.config import REFERENCE_VOCABULARY_RMS
from ti_engine.word.vocabulary import usual_scale


def table(tokens: int, width: int, rms: float, spread: float) -> Tensor:
    """Lengths vary log-normally by `spread`."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(tokens, width, generator=generator) * rms
    return rows * torch.randn(tokens, 1, generator=generator).mul(spread).exp()


def scale(rows: Tensor) -> tuple[float, float]:
    return usual_scale(rows.norm(dim=1), rows.shape[1])


# In the shape of CLIP-L's, T5's and a language model's, in fewer rows.
TABLES = {"clip": (4940, 768, 0.014, 0.1), "t5": (3212, 256, 8.0, 0.3), "llm": (15193, 128, 0.03, 0.2)}


@pytest.mark.parametrize("kind", TABLES)
def test_without_outliers_it_is_the_root_mean_square(kind):
    rows = table(*TABLES[kind])
    rms, length = scale(rows)
    assert rms == pytest.approx(float(rows.square().mean().sqrt()), rel=0.1)
    assert length == pytest.approx(rms * rows.shape[1] ** 0.5)
    assert length == pytest.approx(float(rows.norm(dim=1).mean()), rel=0.06)


def test_a_vocabulary_of_sd1s_scale_keeps_the_learning_rate():
    assert scale(table(4940, 768, 0.014, 0.02))[0] == pytest.approx(REFERENCE_VOCABULARY_RMS, rel=0.005)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("outlier", [0.0, 1e3, float("inf"), float("nan")])
def test_a_few_rows_of_another_size_have_no_say(kind, outlier):
    rows = table(*TABLES[kind])
    clean = scale(rows)
    rows[::100] *= outlier
    assert scale(rows) == pytest.approx(clean, rel=0.01)


def test_rows_that_were_never_trained_have_little_say():
    """Language models keep a tenth of their table spare."""
    rows = table(*TABLES["llm"])
    clean = scale(rows)
    rows[-1519:] *= 1e-4
    assert scale(rows) == pytest.approx(clean, rel=0.06)
