"""Runs that run out of memory."""

import pytest
import torch
from toy import ToyBackend, hidden_set, result_loss, run, toy_config

from ti_engine.memory.out_of_memory import out_of_memory_advice

OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


def small_memory(backend: ToyBackend, largest: int, monkeypatch, error=OUT_OF_MEMORY[0], twice=0) -> None:
    """Makes the backend's memory hold `largest` samples at once, and `twice` once it saves memory."""
    denoise = backend.denoise

    def tight(noisy, sigma, cond, inpainting=None):
        if len(noisy) > (twice if backend.saves_memory else largest) and cond.requires_grad:
            raise error
        return denoise(noisy, sigma, cond)

    monkeypatch.setattr(backend, "denoise", tight)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: type(e).__name__)
def test_a_batch_that_does_not_fit_is_split_and_nothing_is_lost(error, monkeypatch):
    whole = run(toy_config(), ToyBackend(dtype=torch.float64))
    backend = ToyBackend(dtype=torch.float64)
    small_memory(backend, 2, monkeypatch, error)
    split = run(toy_config(), backend)
    assert split.parts == 4 and split.ran_out_of_memory == 1 and not backend.saves_memory
    assert_same_run(whole, split)


@pytest.mark.parametrize(("good", "steps"), [(5, 30), (13, 30), (12, 12)])
def test_what_was_learned_before_memory_was_gone_is_kept(good, steps, monkeypatch):
    """Calls of the gradient that still fit; with all of them, it is the last look that does not."""
    whole = run(toy_config(steps=steps), ToyBackend(dtype=torch.float64))
    backend, calls = ToyBackend(dtype=torch.float64), []
    denoise = backend.denoise

    def leaking(noisy, sigma, cond, inpainting=None):
        calls.append(1)
        if sum(calls) > needed:
            raise OUT_OF_MEMORY[0]
        return denoise(noisy, sigma, cond)

    needed = good + looks(steps, good)
    monkeypatch.setattr(backend, "denoise", leaking)
    record = run(toy_config(steps=steps), backend)
    assert len(record.losses) == good and record.returned[-1] == good
    assert record.stopped == (
        None if good == steps else f"There was no memory for step {good + 1}. {out_of_memory_advice(8, 64, 'auto')}"
    )
    torch.testing.assert_close(record.trajectory[good]["clip_l"], whole.trajectory[good]["clip_l"])


@pytest.mark.parametrize("told", [False, True])
def test_looking_takes_no_more_samples_at_once_than_training(told, monkeypatch):
    whole = run(toy_config(), ToyBackend(dtype=torch.float64))
    backend = ToyBackend(dtype=torch.float64, samples_at_once=2 if told else None)
    denoise = backend.denoise

    def tight(noisy, sigma, cond, inpainting=None):
        if len(noisy) > 2:
            raise OUT_OF_MEMORY[0]
        return denoise(noisy, sigma, cond)

    monkeypatch.setattr(backend, "denoise", tight)
    split = run(toy_config(), backend)
    assert split.parts == 4 and split.ran_out_of_memory == (None if told else 1)
    assert split.evaluations == pytest.approx(whole.evaluations, rel=1e-5)
    assert split.result_loss == pytest.approx(whole.result_loss, rel=1e-5)
    assert_same_run(whole, split)


def looks(steps, done):
    """Passes of the evaluation set in a run of batches of 8: one look before training and one every 50 updates."""
    samples = min(64, max(16, 8 * steps // 10))
    return -(-samples // 8) * (1 + done // 50)


def test_a_run_that_memory_ends_is_still_compared(monkeypatch):
    backend, calls = ToyBackend(dtype=torch.float64), []
    encode = backend.encode

    def broken(captions, words, differentiable):
        calls.append(differentiable)
        if differentiable and sum(calls) > 7:
            raise MemoryError
        return encode(captions, words, differentiable)

    monkeypatch.setattr(backend, "encode", broken)
    monkeypatch.setattr(backend, "load_less", lambda: False)
    record = run(toy_config(learning_rate=0.02), backend, hidden_set)
    assert len(record.losses) == 7 and "no memory for step 8" in (record.stopped or "")
    assert result_loss(record) < record.evaluations[0]


def assert_same_run(one, other):
    assert one.losses == pytest.approx(other.losses, rel=1e-5)
    for a, b in zip(one.trajectory.values(), other.trajectory.values(), strict=True):
        torch.testing.assert_close(a["clip_l"], b["clip_l"], rtol=1e-4, atol=1e-6)


def test_memory_that_runs_out_in_the_middle_of_a_run_loses_no_step(monkeypatch):
    whole = run(toy_config(), ToyBackend(dtype=torch.float64))
    backend = ToyBackend(dtype=torch.float64)
    denoise, calls = backend.denoise, []

    def fuller_and_fuller(noisy, sigma, cond, inpainting=None):
        calls.append(cond.requires_grad)
        if cond.requires_grad and sum(calls) > 10 and len(noisy) > 4:
            raise torch.cuda.OutOfMemoryError
        return denoise(noisy, sigma, cond)

    monkeypatch.setattr(backend, "denoise", fuller_and_fuller)
    split = run(toy_config(), backend)
    assert split.parts == 2 and split.ran_out_of_memory == 11 and len(split.losses) == 30
    assert_same_run(whole, split)


def test_the_denoiser_is_checkpointed_when_one_sample_does_not_fit(monkeypatch):
    whole = run(toy_config(), ToyBackend(dtype=torch.float64))
    backend = ToyBackend(dtype=torch.float64)
    small_memory(backend, 0, monkeypatch, twice=1)
    record = run(toy_config(), backend)
    assert backend.saves_memory and record.parts == 8
    assert_same_run(whole, record)


def test_fewer_weights_are_loaded_when_checkpointing_does_not_suffice(monkeypatch):
    whole = run(toy_config(), ToyBackend(dtype=torch.float64))
    backend = ToyBackend(dtype=torch.float64)
    small_memory(backend, 0, monkeypatch, twice=1)
    denoise = backend.denoise

    def crowded(noisy, sigma, cond, inpainting=None):
        if backend.loaded > 0.25 and cond.requires_grad:
            raise MemoryError
        return denoise(noisy, sigma, cond)

    monkeypatch.setattr(backend, "denoise", crowded)
    record = run(toy_config(), backend)
    assert backend.saves_memory and backend.loaded == 0.25 and record.parts == 8 and len(record.losses) == 30
    assert_same_run(whole, record)


def test_checkpointing_can_be_asked_for_and_forbidden(monkeypatch):
    backend = ToyBackend()
    run(toy_config(gradient_checkpointing="on"), backend)
    assert backend.saves_memory and backend.loaded == 1
    backend = ToyBackend()
    small_memory(backend, 0, monkeypatch, twice=8)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run(toy_config(gradient_checkpointing="off"), backend)


def test_no_more_samples_at_once_than_the_backend_says():
    backend = ToyBackend(dtype=torch.float64, samples_at_once=3)
    record = run(toy_config(), backend)
    assert record.parts == 4 and record.ran_out_of_memory is None
    assert_same_run(run(toy_config(), ToyBackend(dtype=torch.float64)), record)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: type(e).__name__)
def test_a_sample_that_does_not_fit_is_the_callers_to_explain(error, monkeypatch):
    backend = ToyBackend()
    small_memory(backend, 0, monkeypatch, error)
    with pytest.raises(MemoryError):
        run(toy_config(), backend)


def test_other_errors_are_not_taken_for_a_full_memory(monkeypatch):
    backend = ToyBackend()
    small_memory(backend, 4, monkeypatch, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        run(toy_config(), backend)
