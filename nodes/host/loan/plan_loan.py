"""How the models are loaded and a batch is computed in the memory that a device has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import comfy.model_management as memory

from ....ti_engine.memory.plan import Checkpointing, MemoryPlan, choose_plan
from .memory_count import available_memory, has_ample_room
from .step_count import StepCount

_ACTIVATIONS = 8  # training keeps the activations that sampling frees; times the host's own estimate for sampling


@dataclass(frozen=True)
class LoanPlan:
    """step: how a batch is computed. reserved: bytes to keep free beside the weights. wholly: all weights are loaded;
    else some stay in system memory.
    """

    step: MemoryPlan
    reserved: float
    wholly: bool


def plan_loan(count: StepCount, batch_size: int, gradient_checkpointing: str) -> LoanPlan:
    """For steps of `batch_size` samples. gradient_checkpointing: as in TrainConfig."""
    patchers, device = [count.patcher, count.clip.patcher], count.patcher.load_device
    allowed = Checkpointing.allowed(gradient_checkpointing)
    available = available_memory(device, patchers)
    estimate = count.patcher.model.memory_required([batch_size, *count.latents])
    if has_ample_room(device, available, estimate, count.clip.patcher.model_size()):
        step = MemoryPlan(batch_size, allowed[0], None)
    else:
        step = choose_plan(count.bytes, batch_size, available, allowed)
    # What is not known, or asked for by name, is tried with all weights in place.
    needed = 0 if gradient_checkpointing == "off" else step.bytes or 0
    wholly = memory.is_device_cpu(device) or needed <= available
    if not wholly:  # some weights have to make room, and all may
        offloaded = partial(count.bytes, offloaded=True)
        step = choose_plan(offloaded, batch_size, available + count.weights(), (Checkpointing.EVERYTHING,))
    return LoanPlan(step, estimate * _ACTIVATIONS if step.bytes is None else step.bytes, wholly)
