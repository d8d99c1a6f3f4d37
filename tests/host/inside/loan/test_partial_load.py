"""Models that do not fit on their device as a whole, on a CPU that the host is made to take for a small card.

Layers whose weights are not "on the card" take the host's own way for weights of another device, streams and all.
"""

from __future__ import annotations

from contextlib import nullcontext

import comfy.model_management as memory
import comfy.ops
import comfy.sd
import pytest
import torch
from in_host import plugin, snapshot
from loss_problem import Problem, in_float64
from small_families import build
from test_memory import backend_of, blocks_of, exactly
from test_patched_models import lora

FAMILIES = ["SD2", "SDXL", "Flux dev", "Qwen-Image"]  # Flux adds in place and reads T5, Qwen goes on behind a text
ELSEWHERE = torch.device("cpu", 0)  # another device than "cpu" to the host, and the same one to torch
STEP = 100_000  # bytes


class Stream:
    """As much of a device's stream as the host asks for; its work is done at once."""

    def wait_stream(self, _):
        pass

    @staticmethod
    def as_context(_):
        return nullcontext()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Card:
    """budget: bytes that it holds, weights included."""

    def __init__(self):
        self.budget = 1e12
        self.holds = {}
        self.streams = [Stream(), Stream()]
        self.fetched = 0

    def free(self, device=None, torch_free_too=False):
        left = self.budget - sum(patcher.loaded_size() for patcher in self.holds.values())
        return (left, 0) if torch_free_too else left

    def stream(self, _):
        self.streams.reverse()
        return self.streams[0]


@pytest.fixture
def card(monkeypatch):
    made, cast = Card(), comfy.ops.cast_bias_weight
    small = {
        "is_device_cpu": lambda _: False, "vram_state": memory.VRAMState.NORMAL_VRAM, "get_free_memory": made.free,
        "minimum_inference_memory": lambda: 0, "extra_reserved_memory": lambda: 0, "MIN_WEIGHT_MEMORY_RATIO": 0.0,
        "get_offload_stream": made.stream,
    }  # fmt: skip
    for name, value in small.items():
        monkeypatch.setattr(memory, name, value)
    # Stand-ins know better than the host which of these two devices is which, and a step is not what is tested here.
    monkeypatch.setattr(plugin("nodes.host.loan.step_count").StepCount, "bytes", lambda *_, **__: STEP)

    def from_elsewhere(s, input=None, dtype=None, device=None, *more, **options):
        left_away = s.comfy_cast_weights and not getattr(s, "comfy_patched_weights", False)
        if left_away:
            made.fetched += 1
            device = ELSEWHERE
            dtype = input.dtype if dtype is None and input is not None else dtype
        return cast(s, input, dtype, device, *more, **options)

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", from_elsewhere)
    yield made
    made.budget = 1e30
    unload()
    getattr(memory, "STREAM_CAST_BUFFERS", {}).clear()


def unload():
    with torch.inference_mode():
        memory.unload_all_models()


def weights_of(models):
    return [models.model, models.clip.patcher]


def size_of(models):
    return sum(patcher.model_size() for patcher in weights_of(models))


def partly_lent(card, models, share=0.5):
    """The models on loan, on a card for as many bytes as `share` of the denoiser, beside a step."""
    backend = backend_on(card, models)
    card.budget = int(STEP * plugin("ti_engine.memory.plan").MARGIN) + share * models.model.model_size()
    return backend.lent(1, backend.latent_shape(64))


def backend_on(card, models):
    put_on(card, models)
    return backend_of(models)


def put_on(card, models):
    for patcher in weights_of(models):
        card.holds[id(patcher.model)] = patcher
        patcher.offload_device = ELSEWHERE


def exact_gradient(lending, models, monkeypatch):
    """And the loan that it was computed in."""
    for block in blocks_of(backend_of(models)):
        vars(block)["forward"] = exactly(block.forward)
    with lending as lent, in_float64(lent, monkeypatch):
        return Problem(lent, torch.float64).gradient(), lent.loan


def assert_same(gradient, wanted, tolerance=1e-9):
    assert bool(wanted.any())
    torch.testing.assert_close(gradient, wanted, rtol=tolerance, atol=0.1 * tolerance * float(wanted.norm()))


def assert_as_never_loaded(models, before):
    unload()
    assert all(torch.equal(bits, before[key][1]) for key, (_, bits) in snapshot(models).items())
    for patcher in weights_of(models):
        assert patcher.loaded_size() == 0 and not patcher.model.model_lowvram
        for module in patcher.model.modules():
            assert getattr(module, "comfy_cast_weights", None) == getattr(type(module), "comfy_cast_weights", None)
            assert not getattr(module, "weight_function", []) and not getattr(module, "bias_function", [])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_is_that_of_a_model_that_fits(family, card, monkeypatch):
    with torch.inference_mode():
        fitting, models = build(family), build(family)
    with torch.inference_mode(False):
        whole = backend_on(card, fitting)
        wanted, loan = exact_gradient(whole.lent(1, whole.latent_shape(64), "on"), fitting, monkeypatch)
        assert loan.bytes_offloaded == card.fetched == 0
        unload()
        found, loan = exact_gradient(partly_lent(card, models), models, monkeypatch)
    assert any(0 < patcher.loaded_size() < patcher.model_size() for patcher in weights_of(models))
    assert loan.bytes_offloaded and card.fetched > 100 and loan.checkpointing == 2
    assert_same(found, wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_of_the_host_is_changed(family, card):
    with torch.inference_mode():
        models = build(family)
    before = snapshot(models)
    with torch.inference_mode(False):
        with partly_lent(card, models) as lent:
            Problem(lent, torch.float32).gradient()
        with pytest.raises(ZeroDivisionError), partly_lent(card, models):
            assert memory.get_offload_stream(None) is None
            raise ZeroDivisionError
    assert memory.get_offload_stream(None) in card.streams
    assert any(patcher.model.model_lowvram for patcher in weights_of(models))
    assert all(tensor is before[key][0] for key, (tensor, _) in snapshot(models).items())
    assert_as_never_loaded(models, before)


@pytest.mark.skipif(not hasattr(memory, "get_cast_buffer"), reason="this host has no buffer that layers share")
@pytest.mark.parametrize("family", ["SD2", "SDXL"])
def test_what_the_hosts_streams_would_do(family, card):
    """Without which the other tests would prove nothing. (Of Flux autograd keeps copies in any case.)"""
    with torch.inference_mode():
        models = build(family)
    with torch.inference_mode(False), partly_lent(card, models) as lent:
        wanted = Problem(lent, torch.float32).gradient()
        memory.get_offload_stream = card.stream
        try:
            found = Problem(lent, torch.float32).gradient()
        except RuntimeError as error:
            assert "modified by an inplace operation" in str(error)
        else:
            assert not torch.allclose(found, wanted, rtol=0.01)


def test_a_lora_is_part_of_the_layers_that_are_fetched(card):
    with torch.inference_mode():
        models = build("SD1")
        file, _ = lora(models)
        model, clip = comfy.sd.load_lora_for_models(models.model, models.clip, file, 1.0, 1.0)
    before = snapshot(models)
    patched = models._replace(model=model, clip=clip)
    with torch.inference_mode(False):
        gradients, prints = [], []
        for share in (100, 0.5, 0.0):
            with partly_lent(card, patched, share) as lent:
                gradients.append(Problem(lent, torch.float32).gradient())
                prints.append(lent.fingerprint())
            assert bool(lent.loan.bytes_offloaded) is (share < 1)
            unload()
        card.budget = 1e12
        plain = backend_on(card, models)
        with plain.lent(3, plain.latent_shape(64)) as lent:
            assert torch.cosine_similarity(Problem(lent, torch.float32).gradient(), gradients[0], dim=0) < 0.99
            assert lent.fingerprint() != prints[0]
    for gradient in gradients[1:]:
        assert_same(gradient, gradients[0], 1e-4)
    assert prints[0] == prints[1] == prints[2]
    assert_as_never_loaded(models, before)


def test_less_is_loaded_when_memory_runs_out(card):
    with torch.inference_mode():
        models = build("SDXL")
    before = snapshot(models)
    with torch.inference_mode(False):
        backend = backend_on(card, models)
        with backend.lent(3, backend.latent_shape(64)) as lent:
            wanted = Problem(lent, torch.float32).gradient()
            elsewhere = [lent.loan.bytes_offloaded]
            while lent.load_less():
                elsewhere.append(lent.loan.bytes_offloaded)
                assert lent.loan.checkpointing == 2
                assert_same(Problem(lent, torch.float32).gradient(), wanted, 1e-3)
            assert elsewhere[0] == 0 and elsewhere == sorted(elsewhere)
            assert elsewhere[1] > 0.45 * size_of(models) and elsewhere[-1] > 0.8 * size_of(models)
    assert_as_never_loaded(models, before)


def test_what_the_host_does_while_a_loan_is_paused_does_not_stay(card):
    with torch.inference_mode():
        models = build("SDXL")
    with torch.inference_mode(False), partly_lent(card, models) as lent:
        loan = lent.loan
        wanted, elsewhere = Problem(lent, torch.float32).gradient(), loan.bytes_offloaded
        with loan.paused(), torch.inference_mode():
            assert memory.get_offload_stream(None) in card.streams
            card.budget, budget = 1e12, card.budget
            memory.load_models_gpu(weights_of(models), force_full_load=True)
            assert all(patcher.loaded_size() == patcher.model_size() for patcher in weights_of(models))
            unload()
            card.budget = budget
        assert loan.bytes_offloaded == pytest.approx(elsewhere, rel=0.2)
        assert memory.get_offload_stream(None) is None
        assert_same(Problem(lent, torch.float32).gradient(), wanted, 1e-4)


def test_a_mode_that_never_loads_wholly(card, monkeypatch):
    """--novram"""
    monkeypatch.setattr(memory, "vram_state", memory.VRAMState.NO_VRAM)
    with torch.inference_mode():
        models = build("SD2")
    with torch.inference_mode(False):
        backend = backend_on(card, models)
        with backend.lent(3, backend.latent_shape(64)) as lent:
            assert lent.loan.bytes_offloaded > 0.9 * size_of(models) and lent.loan.checkpointing == 2


def test_the_report_tells_what_stays_in_system_memory(card, models, train):
    put_on(card, models)
    wanted = train(steps=[3])
    assert "system memory" not in wanted[3]
    unload()
    card.budget = 0.3 * (models.model.model_size() + models.clip.patcher.model_size())
    found = train(steps=[3])
    assert "GB of the models stay in system memory and are fetched layer by layer" in found[3]
    assert "checkpointing on" in found[3]
    torch.testing.assert_close(found[0].vectors, wanted[0].vectors, rtol=1e-3, atol=1e-5)
