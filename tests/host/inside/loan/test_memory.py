"""Checkpointed blocks and parts of a batch, for every family: the gradient of the plain step, in less memory."""

from __future__ import annotations

import os
from itertools import permutations

import comfy.model_management
import pytest
import small_encoders
import torch
from in_host import plugin, snapshot
from loss_problem import Float64, Problem, in_float64
from small_families import SMALL, build

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
    blocks = [*backend.blocks.denoiser, *backend.blocks.encoders]
    assert backend.blocks.denoiser and backend.blocks.encoders
    return blocks


def gradient(models, checkpointing, monkeypatch):
    """Of the fixed batch of test_families, in float64 throughout, second runs of blocks included."""
    with torch.inference_mode(False):
        backend = backend_of(models)
        for block in blocks_of(backend):
            vars(block)["forward"] = exactly(block.forward)
        with backend.lent(3, backend.latent_shape(64), checkpointing) as lent, in_float64(lent, monkeypatch):
            assert lent.loan.checkpointing == (2 if checkpointing == "on" else 0)
            return Problem(lent, torch.float64).gradient()


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


def test_a_step_may_get_smaller_within_a_loan(family, models):
    with torch.inference_mode(False):
        backend = backend_of(models)
        before = snapshot(models)
        with backend.lent(3, backend.latent_shape(64)) as lent:
            assert lent.loan.checkpointing == 0
            plain = Problem(lent, torch.float32).gradient()
            assert lent.save_memory()
            blocks = blocks_of(backend)
            assert lent.loan.checkpointing == 2 and all("forward" in vars(block) for block in blocks)
            torch.testing.assert_close(
                Problem(lent, torch.float32).gradient(), plain, rtol=1e-3, atol=1e-4 * float(plain.norm())
            )
            with lent.loan.paused():
                assert not any("forward" in vars(block) for block in blocks)
            assert all("forward" in vars(block) for block in blocks)
            assert not lent.save_memory()
        assert not any("forward" in vars(block) for block in blocks)
        after = snapshot(models)
        assert all(after[key][0] is tensor for key, (tensor, _) in before.items())


def real_step(lent, samples):
    """With captions that differ and are of one length, so that the model takes them side by side."""
    captions = ["a photo of " + " ".join(words) for words in permutations(["S*", "red", "big"])][:samples]
    vectors = {key: torch.randn(1, info.width).requires_grad_() for key, info in lent.encoders.items()}
    encoded = lent.encode(captions, {"S*": vectors}, differentiable=True)
    side = getattr(lent.models.vae, "side", 8)
    latents = torch.randn(samples, *lent.models.latent_shape(64)[:-2], side, side)
    lent.denoise(latents, torch.ones(samples), encoded.cond).sum().backward()
    encoded.backward()


@pytest.mark.parametrize("how", ["off", "on"])
def test_what_was_counted_is_what_a_real_step_holds(family, models, how, monkeypatch):
    monkeypatch.setattr(plugin("nodes.host.loan.plan_loan"), "has_ample_room", lambda *_: False)
    margin = plugin("ti_engine.memory.plan").MARGIN
    with torch.inference_mode(False):
        backend = backend_of(models)
        latents = [*backend.latent_shape(64)[:-2], models.vae.side, models.vae.side]
        with backend.lent(3, latents, how) as lent:
            roots = (models.model.model, models.clip.cond_stage_model)
            weights = [tensor for root in roots for tensor in [*root.parameters(), *root.buffers()]]
            torch.manual_seed(0)
            with plugin("ti_engine.memory.peak_count").CountedMemory(weights) as measured:
                real_step(lent, 3)
    assert lent.plan.bytes / margin == pytest.approx(measured.peak["cpu"], rel=0.05)


@pytest.mark.parametrize("name", ["Flux dev", "Wan 2.1"])  # its layers hand on one table; each makes its own
def test_t5_keeps_one_table_of_distances(name, monkeypatch):
    everything = plugin("ti_engine.memory.plan").Checkpointing.EVERYTHING

    def kept(layers):
        monkeypatch.setitem(small_encoders._T5, "num_layers", layers)
        with torch.inference_mode():
            models = build(name)
        with torch.inference_mode(False):
            backend = backend_of(models)
            shape = backend.latent_shape(64)
            count = plugin("nodes.host.loan.step_count").StepCount(
                models.model, models.clip, backend.family, backend.blocks, shape
            )
            assert count.bytes(1, everything)
            (encoders,) = count._encoders.values()
            with backend.lent(1, shape, "on") as lent:
                vectors = {key: torch.randn(1, info.width).requires_grad_() for key, info in backend.encoders.items()}
                known = models.clip.cond_stage_model.parameters()
                with plugin("ti_engine.memory.peak_count").CountedMemory(known) as measured:
                    encoded = lent.encode(["a photo of S*"], {"S*": vectors}, differentiable=True)
            tokens = encoded.cond.distinct[0]["cond"].shape[1]
            return encoders.kept, measured.now["cpu"], 4 * small_encoders._T5["num_heads"] * tokens**2

    (counted, measured, table), (counted_more, measured_more, _) = kept(2), kept(8)
    assert counted == pytest.approx(measured, rel=0.05) and counted_more == pytest.approx(measured_more, rel=0.05)
    assert measured > table / 2 and measured_more - measured < 6 * table / 4


@pytest.mark.parametrize("name", ["SD2", "Flux dev"])
def test_layers_that_are_fetched_hold_copies_of_their_weights(name, monkeypatch):
    """Where the two devices are one, the host's cast copies nothing; here it does, as between two."""

    def copied(weight, dtype=None, *_, **__):
        return weight.to(dtype=weight.dtype if dtype is None else dtype, copy=True)

    monkeypatch.setattr(comfy.model_management, "cast_to", copied)
    with torch.inference_mode():
        models = build(name)
    with torch.inference_mode(False):
        backend = backend_of(models)
        count = plugin("nodes.host.loan.step_count").StepCount(
            models.model, models.clip, backend.family, backend.blocks, backend.latent_shape(64)
        )
        everything = plugin("ti_engine.memory.plan").Checkpointing.EVERYTHING
        assert all(count.bytes(1, everything, away) for away in (False, True))
    loaded, fetched = (count._denoiser[1, True, away] for away in (False, True))  # the encoders cast in any case
    layers = [m for m in models.model.model.modules() if hasattr(m, "comfy_cast_weights")]
    assert layers and not any(vars(m).get("comfy_cast_weights") for m in layers)  # as it was
    assert loaded < fetched < loaded + models.model.model_size()
