"""Which plan is chosen for the memory that there is."""

from __future__ import annotations

import pytest
import torch
from torch.testing._internal.two_tensor import TwoTensor

from ti_engine.memory.out_of_memory import is_out_of_memory
from ti_engine.memory.peak_count import CountedMemory
from ti_engine.memory.plan import MARGIN, MemoryPlan, Recompute, choose_plan


def count(samples, way):
    """100 for the encoders, or 50 where they run twice; and 50 for each sample, or 10 where everything does."""
    return (100 if way == Recompute.NOTHING else 50) + samples * (10 if way == Recompute.EVERYTHING else 50)


@pytest.mark.parametrize(
    ("available", "samples", "way"),
    [
        (10_000, 8, Recompute.NOTHING),
        (500, 8, Recompute.NOTHING),
        (499, 8, Recompute.ENCODERS),
        (449, 4, Recompute.ENCODERS),
        (100, 1, Recompute.ENCODERS),
        (99, 4, Recompute.EVERYTHING),
        (60, 1, Recompute.EVERYTHING),
        (10, 1, Recompute.EVERYTHING),  # nothing fits: the least, and the device will tell
    ],
)
def test_the_fastest_that_fits(available, samples, way):
    plan = choose_plan(count, 8, available * MARGIN + 1e-6)
    assert (plan.samples_at_once, plan.recompute) == (samples, way)
    assert plan.bytes == int(count(samples, way) * MARGIN)


def test_only_the_ways_that_are_allowed():
    assert choose_plan(count, 8, 0, (Recompute.NOTHING,)) == MemoryPlan(1, Recompute.NOTHING, int(150 * MARGIN))
    everything = (Recompute.EVERYTHING,)
    assert choose_plan(count, 8, 1e9, everything) == MemoryPlan(8, Recompute.EVERYTHING, int(130 * MARGIN))


def test_what_cannot_be_counted_is_tried_as_a_whole():
    assert choose_plan(lambda *_: None, 8, 0) == MemoryPlan(8, Recompute.EVERYTHING, None)
    plan = choose_plan(lambda n, way: count(n, way) if way else None, 8, 1e9)
    assert plan.recompute == Recompute.ENCODERS


def test_what_fits_is_counted_once():
    asked = []
    choose_plan(lambda *given: asked.append(given) or count(*given), 8, 1e9)
    assert asked == [(8, Recompute.NOTHING)]


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


def test_of_tensors_made_of_others_these_count():
    part = torch.ones(100)
    with CountedMemory([part]) as counted:
        view = TwoTensor(part, part).view(10, 10)
        assert not counted.peak
        twice = view * 2
        assert type(twice) is TwoTensor and counted.now["cpu"] == 2 * part.nbytes


def test_errors_that_mean_a_full_memory():
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert is_out_of_memory(torch.cuda.OutOfMemoryError())
    assert is_out_of_memory(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert is_out_of_memory(RuntimeError("GET was unable to find an engine to execute this computation"))
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))
