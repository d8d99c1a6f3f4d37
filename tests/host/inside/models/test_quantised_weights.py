"""Weights in fewer bits than they are computed with, on a device that does not hold them all, and what a step holds."""

from __future__ import annotations

import comfy.model_management
import pytest
import test_partial_load as partial
import torch
from in_host import plugin
from loss_problem import Problem
from small_quantised import KINDS, WIDE, all_parts, build_quantised, raw
from small_quantised import parts as parts_of
from test_memory import backend_of, real_step
from test_packed_weights import Packed

card = partial.card
MEASURED = ["fp8", "scaled fp8"]  # packed ones bear no mode that measures


def everything():
    return plugin("ti_engine.memory.plan").Checkpointing.EVERYTHING


def networks(models):
    return models.model.model, models.clip.cond_stage_model


def bits(models):
    return {(i, name): raw(p).clone() for i, root in enumerate(networks(models)) for name, p in root.named_parameters()}


def left_away(models):
    """Bytes of the layers that the host has kept off its card."""
    layers = [m for root in networks(models) for m in root.modules() if getattr(m, "comfy_cast_weights", False)]
    away = [layer for layer in layers if not getattr(layer, "comfy_patched_weights", False)]
    return sum(raw(p).nbytes for layer in away for p in layer.parameters(recurse=False))


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_a_model_that_fits(kind, card, monkeypatch):
    with torch.inference_mode():
        fitting, models = (build_quantised("Flux dev", kind, monkeypatch) for _ in range(2))
    before = bits(models)
    with torch.inference_mode(False):
        whole = partial.backend_on(card, fitting)
        with whole.lent(1, whole.latent_shape(64), "on") as lent:
            wanted = Problem(lent, torch.float32).gradient()
        assert lent.loan.bytes_offloaded == left_away(fitting) == 0
        partial.unload()
        with partial.partly_lent(card, models) as lent:
            loan, found = lent.loan, Problem(lent, torch.float32).gradient()
            assert loan.bytes_offloaded == pytest.approx(left_away(models), rel=0.01)
            swaps = list(loan._swaps)
    assert loan.bytes_offloaded and loan.checkpointing == 2
    assert bool(wanted.any())
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6 * float(wanted.norm()))
    assert swaps and all(swap.owner[swap.name] is swap.original for swap in swaps)
    assert all(torch.equal(b, before[key]) for key, b in bits(models).items())
    partial.unload()
    assert all(torch.equal(b, before[key]) for key, b in bits(models).items())


@pytest.mark.parametrize("how", ["off", "on"])
@pytest.mark.parametrize("kind", MEASURED)
def test_what_was_counted_is_what_a_real_step_holds(kind, how, monkeypatch):
    monkeypatch.setattr(plugin("nodes.host.loan.plan_loan"), "has_ample_room", lambda *_: False)
    with torch.inference_mode():
        models = build_quantised(WIDE, kind, monkeypatch)
    with torch.inference_mode(False):
        backend = backend_of(models)
        with backend.lent(3, backend.latent_shape(64), how) as lent:
            measured = peak_of(lent, models, samples=3)
    assert lent.plan.bytes / plugin("ti_engine.memory.plan").MARGIN == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("kind", MEASURED)
def test_layers_that_are_fetched_hold_their_weights_as_they_are_kept(kind, monkeypatch):
    """Where the two devices are one, the host's cast copies nothing; here it does, as between two."""
    cast = comfy.model_management.cast_to

    def copied(weight, dtype=None, device=None, non_blocking=False, copy=False, *more, **options):
        return cast(weight, dtype, device, non_blocking, True, *more, **options)

    with torch.inference_mode():
        models = build_quantised(WIDE, kind, monkeypatch)
    loaded, _ = counted(models, offloaded=False)
    monkeypatch.setattr(comfy.model_management, "cast_to", copied)
    fetched, step = counted(models, offloaded=True)
    with torch.inference_mode(False):
        backend = backend_of(models)
        largest = max(sum(raw(p).nbytes for p in block.parameters()) for block in backend.blocks.denoiser)
        with backend.lent(1, backend.latent_shape(64), "on") as lent:
            for layer in (module for root in networks(models) for module in root.modules()):
                if hasattr(layer, "comfy_cast_weights"):
                    layer.comfy_cast_weights = True
            measured = peak_of(lent, models, samples=1)
    assert step == pytest.approx(measured, rel=0.01)
    assert loaded <= fetched < loaded + 1.5 * largest


def test_what_is_unpacked_of_packed_weights_counts(monkeypatch):
    """As much as the plain weights that they stand for: all of them, or one block's."""
    nothing = plugin("ti_engine.memory.plan").Checkpointing.NONE
    with torch.inference_mode():
        plain = build_quantised(WIDE, "plain", monkeypatch)
        packed = build_quantised(WIDE, "packed", monkeypatch)
    unpacked = sum(4 * p.numel() for p in packed.model.model.parameters() if isinstance(p, Packed))
    more = {way: counted(packed, False, way)[1] - counted(plain, False, way)[1] for way in (nothing, everything())}
    assert more[nothing] == pytest.approx(unpacked, rel=0.05)
    assert 0.1 * unpacked < more[everything()] < 0.5 * unpacked


def peak_of(lent, models, samples):
    """Bytes that a real step holds beside the weights."""
    known = [part for root in networks(models) for part in all_parts(root)]
    torch.manual_seed(0)
    with plugin("ti_engine.memory.peak_count").CountedMemory(known) as measured:
        real_step(lent, samples)
    return measured.peak["cpu"]


def counted(models, offloaded, checkpointing=None):
    """Bytes of the denoiser's part, and of the whole step, of one picture."""
    with torch.inference_mode(False):
        backend = backend_of(models)
        count = plugin("nodes.host.loan.step_count").StepCount(
            models.model, models.clip, backend.family, backend.blocks, backend.latent_shape(64)
        )
        step = count.bytes(1, everything() if checkpointing is None else checkpointing, offloaded)
    (denoiser,) = count._denoiser.values()
    return denoiser, step


@pytest.mark.parametrize("kind", MEASURED)
def test_the_fingerprint_tells_one_number_from_another(kind, monkeypatch):
    with torch.inference_mode():
        models = build_quantised("Flux dev", kind, monkeypatch)
        weight = models.model.model.diffusion_model.get_parameter("single_blocks.0.linear1.weight")
    fingerprint = plugin("nodes.host.models.fingerprint").weights_fingerprint
    before = fingerprint([models.model])
    assert fingerprint([models.model]) == before
    with torch.inference_mode():
        parts_of(weight)[0].view(torch.uint8)[0, 0] ^= 1
    assert fingerprint([models.model]) != before
