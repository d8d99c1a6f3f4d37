"""What a step of training will hold in memory, found out without allocating it, and what there is to be had."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import comfy.model_management as memory
import torch
from torch import Tensor, nn

from ....ti_engine.memory.fake_tensors import CountedFakeMemory, fake_tensors
from ..models.quantised import is_quantised, with_parts
from .kernels import training_kernels, weights_alone_quantised


def available_memory(device: torch.device, patchers: Sequence[Any]) -> float:
    """Bytes that are left on `device` with the models of `patchers` loaded and all others sent away."""
    free = float(memory.get_free_memory(device))
    if memory.is_device_cpu(device):
        return free  # the host keeps all weights there anyway
    loaded = (one for one in memory.current_loaded_models if one.device == device and one.model is not None)
    others = sum(one.model_loaded_memory() for one in loaded)
    weights = sum(patcher.model_size() for patcher in patchers if patcher.load_device == device)
    return free + others - weights - memory.extra_reserved_memory()


def has_ample_room(device: torch.device, available: float, estimate: float, encoders: float) -> bool:
    """Whether a step need not be counted. estimate: the host's own, of sampling; encoders: the size of their weights.

    Only on a CPU, where a small model would have done its first steps meanwhile.
    """
    return memory.is_device_cpu(device) and ample(estimate, encoders) < available


def ample(estimate: float, encoders: float) -> float:
    """Bytes that a step never takes: the tests hold them against the steps of published models."""
    return 64 * estimate + 8 * encoders


class Held(NamedTuple):
    """Bytes: the most at once, and what is still there at the end."""

    peak: int
    kept: int


def counted_stages(
    patchers: Sequence[Any],
    stages: Sequence[Callable[[], None]],
    checkpointed: AbstractContextManager[Any],
    offloaded: bool = False,
) -> list[Held] | None:
    """What each of `stages` holds on the first patcher's device beside the weights; None if it cannot be counted.

    Runs them one after another inside of `checkpointed`, on fake tensors, the weights among them; these are back
    afterwards. offloaded: every layer that the host can leave off its device is, so that copies of its weights count.
    """
    device, held = patchers[0].load_device.type, []
    try:
        with (
            _quietly("torch._subclasses.fake_tensor"),
            fake_tensors(),
            _fake_weights(patchers, offloaded) as weights,
            checkpointed,
            training_kernels(),
            weights_alone_quantised(patcher.model for patcher in patchers),
            torch.autograd.set_multithreading_enabled(False),  # a FakeTensorMode is for one thread
            CountedFakeMemory(weights) as counted,
        ):
            for stage in stages:
                counted.peak = dict(counted.now)
                stage()
                held.append(Held(counted.peak.get(device, 0), counted.now.get(device, 0)))
    except memory.InterruptProcessingException:
        raise
    except Exception as error:  # what the code does depends on values that are not known
        logging.info("Textual Inversion could not count the memory of a step: %s: %s", type(error).__name__, error)
        return None
    return held


@contextmanager
def _quietly(logger: str) -> Iterator[None]:
    """Without torch's pages about a step that cannot be counted, which is no error."""
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def _fake_weights(patchers: Sequence[Any], offloaded: bool) -> Iterator[list[Tensor]]:
    """The models' parameters and buffers replaced by fake tensors on their devices; gives these."""
    modules = [(module, patcher) for patcher in patchers for module in patcher.model.modules()]
    # Not only the weights: some modules keep what they have computed.
    before = [(kept, dict(kept)) for module, _ in modules for kept in _kept(module)]
    made: list[Tensor] = []
    try:
        for module, patcher in modules:
            away = offloaded and hasattr(module, "comfy_cast_weights")
            device = patcher.offload_device if away else patcher.load_device
            if away:
                module.comfy_cast_weights = True  # as the host marks a layer with offloaded weights
            # Where the host's code moves a module to its device, which has no effect but cannot be done with these.
            vars(module)["_apply"] = lambda *_, kept=module, **__: kept

            def empty(tensor: Tensor, device: torch.device = device) -> Tensor:
                made.append(torch.empty(tensor.shape, dtype=tensor.dtype, device=device))
                return made[-1]

            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        new = with_parts(tensor, empty) if is_quantised(tensor) else empty(tensor)
                        is_parameter = tensors is module._parameters
                        tensors[name] = nn.Parameter(new, requires_grad=False) if is_parameter else new
        yield made
    finally:
        for kept, content in before:
            kept.clear()
            kept.update(content)
        _forget_cached()


def _kept(module: nn.Module) -> list[dict[str, Any]]:
    """The attributes of a module, and those of them that are dictionaries."""
    return [vars(module), *(value for value in vars(module).values() if type(value) is dict)]


def _forget_cached() -> None:
    """Empties the caches of the host's functions, which remember fake tensors now."""
    for name, module in list(sys.modules.items()):
        if module is not None and name.startswith("comfy."):
            for value in list(vars(module).values()):
                for function in vars(value).values() if isinstance(value, type) else (value,):
                    if hasattr(function, "cache_clear"):
                        function.cache_clear()
