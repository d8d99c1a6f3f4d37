"""Which plan is chosen for the memory that there is."""

from __future__ import annotations

import pytest
import torch

from ti_engine.memory import CountedMemory, is_out_of_memory
from ti_engine.memory_plan import MARGIN, MemoryPlan, choose_plan


def count(samples, checkpointing):
    """100 for what is there anyway, 50 for each sample, or 100 and 10 where blocks run twice."""
    return 100 + samples * (10 if checkpointing else 50)


@pytest.mark.parametrize(
    ("available", "samples", "checkpointing"),
    [
        (10_000, 8, False),
        (500, 8, False),
        (499, 4, False),
        (200, 2, False),
        (150, 1, False),
        (149, 4, True),
        (115, 1, True),
        (10, 1, True),  # nothing fits: the least, and the device will tell
    ],
)
def test_the_fastest_that_fits(available, samples, checkpointing):
    plan = choose_plan(count, 8, available * MARGIN + 1e-6)
    assert (plan.samples_at_once, plan.checkpointing) == (samples, checkpointing)
    assert plan.bytes == int(count(samples, checkpointing) * MARGIN)


def test_only_the_modes_that_are_allowed():
    assert choose_plan(count, 8, 0, (False,)) == MemoryPlan(1, False, int(150 * MARGIN))
    assert choose_plan(count, 8, 1e9, (True,)) == MemoryPlan(8, True, int(180 * MARGIN))


def test_what_cannot_be_counted_is_tried_as_a_whole():
    assert choose_plan(lambda *_: None, 8, 0) == MemoryPlan(8, False, None)
    assert choose_plan(lambda n, twice: count(n, twice) if twice else None, 8, 1e9).checkpointing


def test_what_fits_is_counted_once():
    asked = []
    choose_plan(lambda *given: asked.append(given) or count(*given), 8, 1e9)
    assert asked == [(8, False)]


def test_counted_memory_is_what_is_alive():
    before = torch.ones(1024)
    with CountedMemory([before]) as counted:
        view = before[:10]
        big = before.repeat(100)
        now = counted.now["cpu"]
        del big
        small = view + 1
    assert now == 4 * 102_400
    assert counted.now["cpu"] == small.nbytes and counted.peak["cpu"] == now


def test_counted_without_contents_as_with_them():
    from torch._subclasses.fake_tensor import FakeTensorMode

    def peak():
        with CountedMemory() as counted:
            given = torch.ones(64, 64, requires_grad=True)
            (given @ given).relu().exp().sum().backward()
        return counted.peak["cpu"]

    with FakeTensorMode():
        without = peak()
    assert without == peak() > 0


def test_errors_that_mean_a_full_memory():
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert is_out_of_memory(torch.cuda.OutOfMemoryError())
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))
