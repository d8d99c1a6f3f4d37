"""torch's flags around a computation, and what is said of operations that cannot be repeated."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.utils.deterministic
from torch import Tensor
from toy import ToyBackend, noisy_set, toy_config

from ti_engine import TrainRecord, result_warnings, train
from ti_engine.training.determinism import NondeterministicOperations, deterministic_kernels

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
    with pytest.raises(KeyError), NondeterministicOperations([]).collected(), deterministic_kernels():
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


def test_operations_that_cannot_be_repeated_are_named_every_time_and_other_warnings_passed_on_once():
    for _ in range(2):
        names: list[str] = []
        operations = NondeterministicOperations(names)
        with pytest.warns() as shown:
            for _ in range(3):
                with operations.collected(), deterministic_kernels():
                    put_twice()
                    torch.zeros(3).add(1)
                    warnings.warn("something else", stacklevel=1)
        assert names == ["put_"]
        assert [str(warning.message) for warning in shown] == ["something else"]
    names = []
    with NondeterministicOperations(names).collected(), deterministic_kernels():
        torch.zeros(3).add(1)
    assert names == []


class PutsTwice(ToyBackend):
    """In one call with gradients, or in one without, an operation of the model cannot be repeated."""

    def __init__(self, call: int, with_gradients: bool) -> None:
        """call: from 0; from -1 no operation is such a one."""
        super().__init__()
        self.call, self.with_gradients, self.calls = call, with_gradients, 0

    def denoise(self, *arguments: Any) -> Tensor:
        if torch.is_grad_enabled() == self.with_gradients:
            if self.calls == self.call:
                put_twice()
            self.calls += 1
        return super().denoise(*arguments)


@pytest.mark.parametrize("with_gradients", [True, False])
def test_a_run_names_every_operation_that_cannot_be_repeated_and_the_log_stays_quiet(
    with_gradients: bool, recwarn: pytest.WarningsRecorder
) -> None:
    """Updates, evaluations on the way, and the comparison of what the run may return, which comes last."""
    config = toy_config(steps=3, evaluate_every=1)

    def run(call: int) -> tuple[PutsTwice, TrainRecord]:
        backend = PutsTwice(call, with_gradients)
        *_, last = train(backend, noisy_set(backend), config)
        return backend, last.record

    backend, record = run(-1)
    assert record.nondeterministic == []
    assert not [sentence for sentence in result_warnings(backend, config, record) if "deterministic" in sentence]
    for call in range(backend.calls):
        backend, record = run(call)
        assert record.nondeterministic == ["put_"] and not recwarn.list
        (told,) = [sentence for sentence in result_warnings(backend, config, record) if "put_" in sentence]
        assert "the same seed may give slightly different vectors" in told


def test_a_run_that_goes_on_names_them_too(recwarn: pytest.WarningsRecorder) -> None:
    config = toy_config(steps=3)
    half = [step.state.copy() for step in train(ToyBackend(), noisy_set(ToyBackend()), config)][1]
    backend = PutsTwice(0, with_gradients=True)
    *_, last = train(backend, noisy_set(backend), config, half)
    assert last.record.nondeterministic == ["put_"] and not recwarn.list
