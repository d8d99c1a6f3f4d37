"""torch's flags around a computation, and what is said of operations that cannot be repeated."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.utils.deterministic
from torch import Tensor
from toy import ToyBackend, noisy_set, toy_config

from ti_engine import result_warnings, train
from ti_engine.training.determinism import deterministic_kernels, nondeterministic_operations

DETERMINISTIC: Any = torch.utils.deterministic


def flags() -> tuple[object, ...]:
    return (
        torch.get_deterministic_debug_mode(),
        DETERMINISTIC.fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        torch.is_warn_always_enabled(),
    )


@pytest.fixture(params=[0, 1, 2])
def mode(request):
    """What the process had asked for before."""
    torch.set_deterministic_debug_mode(request.param)
    torch.backends.cudnn.benchmark = True
    yield request.param
    torch.set_deterministic_debug_mode(0)
    torch.backends.cudnn.benchmark = False


def put_twice() -> Tensor:
    """An operation that torch has one way for on every device, which is not deterministic."""
    return torch.zeros(4).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))


def test_flags_come_back_after_success_and_error(mode):
    before = flags()
    with deterministic_kernels():
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() == (mode < 2)  # a stricter wish stays
        assert not torch.backends.cudnn.benchmark
    assert flags() == before
    with pytest.raises(KeyError), nondeterministic_operations([]), deterministic_kernels():
        raise KeyError
    assert flags() == before


def test_the_caller_of_the_loop_never_sees_other_flags(mode):
    before = flags()
    steps = train(ToyBackend(), noisy_set(ToyBackend()), toy_config(steps=3))
    assert [flags() for _ in steps] == [before] * 4
    broken = train(ToyBackend(breaks_at=1), noisy_set(ToyBackend()), toy_config(steps=3, evaluate_every=0))
    assert [flags() for _ in broken][-1] == before
    next(half := train(ToyBackend(), noisy_set(ToyBackend()), toy_config(steps=3)))
    half.close()
    assert flags() == before


def test_operations_that_cannot_be_repeated_are_named_every_time_and_other_warnings_passed_on():
    for _ in range(2):
        names = []
        other = pytest.warns(UserWarning, match="something else")
        with other, nondeterministic_operations(names), deterministic_kernels():
            put_twice()
            torch.zeros(3).add(1)
            warnings.warn("something else", stacklevel=1)
        assert names == ["put_"]
    names = []
    with nondeterministic_operations(names), deterministic_kernels():
        torch.zeros(3).add(1)
    assert names == []


class PutsTwice(ToyBackend):
    def denoise(self, *arguments: Any) -> Tensor:
        put_twice()
        return super().denoise(*arguments)


def test_a_run_says_which_of_its_operations_cannot_be_repeated():
    for backend, operations in ((PutsTwice(), ["put_"]), (ToyBackend(), [])):
        config = toy_config(steps=3)
        *_, last = train(backend, noisy_set(backend), config)
        assert last.record.nondeterministic == operations
        told = [sentence for sentence in result_warnings(backend, config, last.record) if "put_" in sentence]
        assert len(told) == len(operations)
