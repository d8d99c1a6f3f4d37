"""Checkpointed blocks and parts of a batch, for every family: the gradient of the plain step, in less memory."""

from __future__ import annotations

import pytest
import torch
from in_host import plugin
from small_families import SMALL, build
from test_families import Problem, snapshot
from test_gradient import Float64


@pytest.fixture(params=SMALL)
def models(request):
    with torch.inference_mode():
        return build(request.param)


def backend_of(models):
    return plugin("nodes.host.backend").HostBackend(*models)


def gradient(models, checkpointing, dtype=torch.float64):
    """Of the fixed batch of test_families, in float64 throughout, second runs of blocks included."""
    with torch.inference_mode(False):
        backend = backend_of(models)
        loan = backend.lent(3, 64, checkpointing)
        for block in [*backend._blocks.denoiser, *backend._blocks.encoders]:
            vars(block)["forward"] = exactly(block.forward)
        apply_model = models.model.model.apply_model
        models.model.model.apply_model = exactly(apply_model)
        with loan, Float64():
            for module in (models.model.model, backend._clip.cond_stage_model):
                module.double()
            assert loan.recompute == (2 if checkpointing == "on" else 0)
            return Problem(backend, dtype).gradient()


def exactly(function):
    def exact(*args, **kwargs):
        with Float64():
            return function(*args, **kwargs)

    return exact


def test_checkpointing_changes_no_gradient(request, models):
    with torch.inference_mode():
        others = build(request.node.callspec.params["models"])
    plain, twice = gradient(others, "off"), gradient(models, "on")
    assert plain.dtype == torch.float64 and bool(plain.any())
    torch.testing.assert_close(twice, plain, rtol=1e-9, atol=1e-12 * float(plain.norm()))


def test_a_step_is_counted_and_checkpointing_needs_less(models):
    with torch.inference_mode(False):
        backend = backend_of(models)
        needed = {}
        for how in ("off", "on"):
            before = snapshot(models)
            backend.lent(2, 64, how)
            assert backend.plan is not None and backend.plan.bytes is not None
            needed[how] = backend.plan.bytes
            after = snapshot(models)
            assert all(after[key][0] is tensor for key, (tensor, _) in before.items())
    assert needed["on"] <= needed["off"]


def test_saving_memory_in_the_middle_of_a_loan(models):
    with torch.inference_mode(False):
        backend = backend_of(models)
        blocks = [*backend._blocks.denoiser, *backend._blocks.encoders]
        assert backend._blocks.denoiser and backend._blocks.encoders
        with backend.lent(3, 64) as loan:
            plain = Problem(backend, torch.float32).gradient()
            assert backend.save_memory() is not backend._family.adds_in_place  # those are from the start
            assert loan.recompute == 2 and all("forward" in vars(block) for block in blocks)
            torch.testing.assert_close(Problem(backend, torch.float32).gradient(), plain, rtol=1e-3, atol=1e-6)
            with loan.paused():
                assert not any("forward" in vars(block) for block in blocks)
            assert all("forward" in vars(block) for block in blocks)
            assert not backend.save_memory()
        assert not any("forward" in vars(block) for block in blocks)
