"""Which plan is chosen for the memory that there is."""

from __future__ import annotations

import pytest
import torch
from torch.testing._internal.two_tensor import TwoTensor

from ti_engine.memory.out_of_memory import is_out_of_memory
from ti_engine.memory.peak_count import CountedMemory
from ti_engine.memory.plan import MARGIN, Checkpointing, MemoryPlan, choose_plan


def count(samples, checkpointing):
    """100 for the encoders, 50 of them checkpointed; and 50 for each sample, 10 of those checkpointed."""
    encoders = 100 if checkpointing == Checkpointing.NONE else 50
    return encoders + samples * (10 if checkpointing == Checkpointing.EVERYTHING else 50)


@pytest.mark.parametrize(
    ("available", "samples", "checkpointing"),
    [
        (10_000, 8, Checkpointing.NONE),
        (500, 8, Checkpointing.NONE),
        (499, 8, Checkpointing.TEXT_ENCODERS),
        (449, 4, Checkpointing.TEXT_ENCODERS),
        (100, 1, Checkpointing.TEXT_ENCODERS),
        (99, 4, Checkpointing.EVERYTHING),
        (60, 1, Checkpointing.EVERYTHING),
        (10, 1, Checkpointing.EVERYTHING),  # nothing fits: the least, and the device will tell
    ],
)
def test_the_fastest_that_fits(available, samples, checkpointing):
    plan = choose_plan(count, 8, available * MARGIN + 1e-6)
    assert (plan.micro_batch, plan.checkpointing) == (samples, checkpointing)
    assert plan.bytes == int(count(samples, checkpointing) * MARGIN)


def test_only_what_is_allowed():
    assert choose_plan(count, 8, 0, (Checkpointing.NONE,)) == MemoryPlan(1, Checkpointing.NONE, int(150 * MARGIN))
    everything = (Checkpointing.EVERYTHING,)
    assert choose_plan(count, 8, 1e9, everything) == MemoryPlan(8, Checkpointing.EVERYTHING, int(130 * MARGIN))


def test_what_cannot_be_counted_is_tried_as_a_whole():
    assert choose_plan(lambda *_: None, 8, 0) == MemoryPlan(8, Checkpointing.EVERYTHING, None)
    plan = choose_plan(lambda n, checkpointing: count(n, checkpointing) if checkpointing else None, 8, 1e9)
    assert plan.checkpointing == Checkpointing.TEXT_ENCODERS


def test_what_fits_is_counted_once():
    asked = []
    choose_plan(lambda *given: asked.append(given) or count(*given), 8, 1e9)
    assert asked == [(8, Checkpointing.NONE)]


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
