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
from torch._subclasses.fake_tensor import FakeTensorMode

from ....ti_engine.memory.fake_tensors import CountedWithoutContents
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


def counted_parts(
    patchers: Sequence[Any],
    parts: Sequence[Callable[[], None]],
    recomputing: AbstractContextManager[Any],
    fetched: bool = False,
) -> list[Held] | None:
    """What each of `parts` holds on the first patcher's device beside the weights; None if it cannot be counted.

    Runs them, one after another, on stand-ins without contents, also for the weights, which are back afterwards, and
    inside of `recomputing`. fetched: every layer that the host can leave off its device is, so that copies of its
    weights count.
    """
    device, held = patchers[0].load_device.type, []
    try:
        with (
            _quietly("torch._subclasses.fake_tensor"),
            FakeTensorMode(allow_non_fake_inputs=True),
            _stand_ins(patchers, fetched) as weights,
            recomputing,
            training_kernels(),
            weights_alone_quantised(patcher.model for patcher in patchers),
            torch.autograd.set_multithreading_enabled(False),  # the mode of stand-ins is for one thread
            CountedWithoutContents(weights) as counted,
        ):
            for part in parts:
                counted.peak = dict(counted.now)
                part()
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
def _stand_ins(patchers: Sequence[Any], fetched: bool) -> Iterator[list[Tensor]]:
    """The models' parameters and buffers replaced by tensors of their shapes on their devices."""
    modules = [(module, patcher) for patcher in patchers for module in patcher.model.modules()]
    # Not only the weights: some modules keep what they have computed.
    before = [(kept, dict(kept)) for module, _ in modules for kept in _kept(module)]
    made: list[Tensor] = []
    try:
        for module, patcher in modules:
            away = fetched and hasattr(module, "comfy_cast_weights")
            device = patcher.offload_device if away else patcher.load_device
            if away:
                module.comfy_cast_weights = True  # as the host tells a layer that its weights are elsewhere
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
    """Empties the caches of the host's functions, which remember results without contents now."""
    for name, module in list(sys.modules.items()):
        if module is not None and name.startswith("comfy."):
            for value in list(vars(module).values()):
                for function in vars(value).values() if isinstance(value, type) else (value,):
                    if hasattr(function, "cache_clear"):
                        function.cache_clear()
