"""Checkpointed blocks and parts of a batch, for every family: the gradient of the plain step, in less memory."""

from __future__ import annotations

import os

import pytest
import torch
from in_host import plugin
from small_families import SMALL, build
from test_families import Problem, in_float64, snapshot
from test_gradient import Float64

# One of each kind of network; the others take minutes, and are tried with TI_ALL_FAMILIES=1.
KINDS = {
    "SD1", "SD2 v", "SDXL", "SD3", "SD3.5 with T5", "Flux dev", "Chroma", "Stable Cascade C", "PixArt sigma", "HiDream",
    "Lumina 2", "Qwen-Image", "Z-Image", "Wan 2.1", "Cosmos", "HunyuanVideo",
}  # fmt: skip


@pytest.fixture(params=SMALL if os.environ.get("TI_ALL_FAMILIES") else [name for name in SMALL if name in KINDS])
def family(request):
    return request.param


@pytest.fixture
def models(family):
    with torch.inference_mode():
        return build(family)


def backend_of(models):
    return plugin("nodes.host.backend").HostBackend(*models)


def blocks_of(backend):
    blocks = [*backend._blocks.denoiser, *backend._blocks.encoders]
    assert backend._blocks.denoiser and backend._blocks.encoders
    return blocks


def gradient(models, checkpointing, monkeypatch):
    """Of the fixed batch of test_families, in float64 throughout, second runs of blocks included."""
    with torch.inference_mode(False):
        backend = backend_of(models)
        loan = backend.lent(3, 64, checkpointing)
        for block in blocks_of(backend):
            vars(block)["forward"] = exactly(block.forward)
        with loan, in_float64(backend, monkeypatch):
            assert loan.recompute == (2 if checkpointing == "on" else 0)
            return Problem(backend, torch.float64).gradient()


def exactly(function):
    def exact(*args, **kwargs):
        with Float64():
            return function(*args, **kwargs)

    return exact


def test_checkpointing_changes_no_gradient(family, models, monkeypatch):
    with torch.inference_mode():
        others = build(family)
    plain, twice = gradient(others, "off", monkeypatch), gradient(models, "on", monkeypatch)
    assert plain.dtype == torch.float64 and bool(plain.any())
    torch.testing.assert_close(twice, plain, rtol=1e-9, atol=1e-10 * float(plain.norm()))


# What they compute depends on values, which nothing is known of while memory is counted.
UNCOUNTED = {"PixArt alpha", "PixArt sigma", "HiDream", "HunyuanVideo", "HunyuanVideo 1.5", "OmniGen 2", "Boogu Image"}


def test_a_step_is_counted_and_may_get_smaller_within_a_loan(family, models):
    with torch.inference_mode(False):
        backend = backend_of(models)
        before = snapshot(models)
        with backend.lent(3, 64) as loan:
            uncounted = backend.plan.bytes is None
            assert family in UNCOUNTED or not uncounted
            assert loan.recompute == (2 if uncounted else 0)
            plain = Problem(backend, torch.float32).gradient()
            assert backend.save_memory() is not uncounted
            blocks = blocks_of(backend)
            assert loan.recompute == 2 and all("forward" in vars(block) for block in blocks)
            torch.testing.assert_close(
                Problem(backend, torch.float32).gradient(), plain, rtol=1e-3, atol=1e-4 * float(plain.norm())
            )
            with loan.paused():
                assert not any("forward" in vars(block) for block in blocks)
            assert all("forward" in vars(block) for block in blocks)
            assert not backend.save_memory()
        assert not any("forward" in vars(block) for block in blocks)
        after = snapshot(models)
        assert all(after[key][0] is tensor for key, (tensor, _) in before.items())


@pytest.mark.parametrize("how", ["off", "on"])
@pytest.mark.parametrize("name", ["SD2", "SDXL", "Flux dev"])
def test_what_was_counted_is_what_a_real_step_holds(name, how):
    memory, margin = plugin("ti_engine.memory"), plugin("ti_engine.memory_plan").MARGIN
    with torch.inference_mode():
        models = build(name)
    with torch.inference_mode(False):
        backend = backend_of(models)
        with backend.lent(3, 64, how):
            weights = [*models.model.model.parameters(), *models.clip.cond_stage_model.parameters()]
            buffers = [*models.model.model.buffers(), *models.clip.cond_stage_model.buffers()]
            torch.manual_seed(0)
            with memory.CountedMemory([*weights, *buffers]) as measured:
                backend._step_on_nothing(backend._latent_shape(3, 64))()
        assert backend.plan.bytes / margin == pytest.approx(measured.peak["cpu"], rel=0.1)
