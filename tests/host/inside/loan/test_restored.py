"""What the process has of the host is after a run what it was before; and one run at a time changes it."""

from __future__ import annotations

import sys
import threading
import types
from contextlib import nullcontext
from functools import partial

import comfy.model_management as memory
import pytest
import torch
from comfy.ldm.modules import attention
from in_host import plugin, snapshot
from torch.utils import deterministic

FIXED = (types.FunctionType, types.BuiltinFunctionType, type, types.ModuleType, bool, str)


def process():
    """Functions, classes and flags of all modules of the host, and torch's flags."""
    found = {
        (name, key): value
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in ("comfy", "comfy_kitchen")
        for key, value in list(vars(module).items())
        if isinstance(value, FIXED)
    }
    found["torch"] = (
        torch.get_deterministic_debug_mode(), deterministic.fill_uninitialized_memory, torch.is_warn_always_enabled(),
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.get_num_threads(),
    )  # fmt: skip
    return found


def differences(before, after):
    return [
        key for key in before if not (after.get(key) is before[key] or (key == "torch" and after[key] == before[key]))
    ]


@pytest.mark.parametrize("end", ["success", "error", "cancel"])
def test_the_process_is_what_it_was(models, train, monkeypatch, end):
    backend = plugin("nodes.host.loan.lent_backend")
    denoise, during = backend.denoise, []
    train(steps=[1], preview_every=[1])  # loads what the host loads late
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)

    def watched(*arguments):
        during.append(process())
        if end == "error" and len(during) == 2:
            raise KeyError("broken")
        if end == "cancel" and len(during) == 2:
            memory.interrupt_current_processing()
            memory.throw_exception_if_processing_interrupted()
        return denoise(*arguments)

    monkeypatch.setattr(backend, "denoise", watched)
    ways = {"error": KeyError, "cancel": memory.InterruptProcessingException}
    before, weights = process(), snapshot(models)
    with pytest.raises(ways[end]) if end in ways else nullcontext():
        train(steps=[2])
    assert differences(before, process()) == []
    changed = differences(before, during[0])
    assert "torch" in changed and ("comfy.model_management", "get_offload_stream") in changed
    assert ("comfy.ldm.modules.attention", "optimized_attention") in changed
    after = snapshot(models)
    assert all(after[key][0] is tensor and torch.equal(tensor, bits) for key, (tensor, bits) in weights.items())


def test_a_module_that_is_loaded_during_a_loan_keeps_no_twin_and_another_ones_function_stays(backend, monkeypatch):
    original, original_masked = attention.optimized_attention, attention.optimized_attention_masked
    late = types.ModuleType("comfy.loaded_late")
    with backend.lent(1, backend.latent_shape(64)):
        late.optimized_attention = attention.optimized_attention
        monkeypatch.setitem(sys.modules, late.__name__, late)
        assert late.optimized_attention is not original
        masked = attention.optimized_attention_masked
        attention.optimized_attention_masked = foreign = lambda *_: None
    try:
        assert late.optimized_attention is original and attention.optimized_attention is original
        assert attention.optimized_attention_masked is foreign
    finally:
        attention.optimized_attention_masked = original_masked
    assert masked is not original_masked


class Run(threading.Thread):
    """The Train node in a thread of its own."""

    def __init__(self, train):
        super().__init__(daemon=True)
        self.train, self.result, self.error = train, None, None
        self.start()

    def run(self):
        try:
            self.result = self.train()[0].vectors["clip_l"]
        except BaseException as error:  # the host's interruption is one
            self.error = error


def test_two_runs_in_two_threads_take_turns(train, monkeypatch):
    backend, alone = plugin("nodes.host.loan.lent_backend"), train()[0].vectors["clip_l"]
    before, denoise, order = process(), backend.denoise, []

    def watched(*arguments):
        order.append(threading.get_ident())
        return denoise(*arguments)

    monkeypatch.setattr(backend, "denoise", watched)
    again = partial(train, anew=False, options=[{"if_exists": "retrain"}])  # or one would be given the other's run
    runs = [Run(again), Run(again)]
    for run in runs:
        run.join(120)
    assert [run.error for run in runs] == [None, None]
    assert all(torch.equal(run.result, alone) for run in runs)
    turns = [one for number, one in enumerate(order) if not number or order[number - 1] != one]
    assert len(turns) == 2  # never in between
    assert differences(before, process()) == []


def test_a_run_that_waits_can_be_cancelled(backend, train):
    with backend.lent(1, backend.latent_shape(64)):
        during, waiting = process(), Run(train)
        waiting.join(3)
        assert waiting.is_alive()
        memory.interrupt_current_processing()
        waiting.join(60)
        assert isinstance(waiting.error, memory.InterruptProcessingException)
        assert differences(during, process()) == []  # the loan that was there goes on
    assert train()[0] is not None  # and the next run finds the way free
