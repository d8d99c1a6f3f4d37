"""Borrow the host's weights for autograd and give them back: never copied, and unchanged once the loan is over.

Nodes run in inference mode, and so did the loader: parameters and buffers are inference tensors, which autograd cannot
save for backward. For the time of a loan each is replaced by a frozen parameter on the same storage.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import comfy.model_management as memory
import torch
from comfy.model_patcher import wipe_lowvram_weight
from comfy.sd1_clip import SDClipModel
from torch import Tensor, nn

from ....ti_engine.memory.out_of_memory import is_out_of_memory
from ....ti_engine.memory.plan import Checkpointing
from ..models.quantised import is_quantised, with_parts
from .kernels import training_kernels, weights_alone_quantised

_log = logging.getLogger(__name__)
# What is rebound for a loan is the process's, so one thread at a time has models on loan.
_one_at_a_time = threading.RLock()
_LOOK_EVERY = 0.2  # seconds, for a cancel while waiting

_CLIP_OPTIONS = ("layer", "layer_idx", "return_projected_pooled", "execution_device")  # set by every encoding


class _Swap(NamedTuple):
    owner: dict[str, Any]
    name: str
    original: Tensor
    trainable: Tensor


class Loan:
    """The models of `patchers`, on their devices and usable by autograd while the `with` lasts.

    memory_required: bytes to keep free beside the weights. checkpointed: makes the context in which blocks are
    checkpointed, by `checkpointing` or by what `set_checkpointing` was given last. wholly: all weights are loaded; else
    as many as leave memory_required free, and the other layers fetch copies of theirs whenever they run, from where the
    host keeps them. Autograd would hold on to those copies, so then everything is checkpointed. After the `with`,
    however it ends, every parameter, buffer, option and block is as it was, and the host's functions that kernels.py
    rebinds.

    Another thread's loan is waited for, until its `with` ends or the host is interrupted.
    """

    def __init__(
        self,
        patchers: Sequence[Any],
        memory_required: float,
        checkpointed: Callable[[Checkpointing], AbstractContextManager[None]] = lambda _: nullcontext(),
        checkpointing: Checkpointing = Checkpointing.NONE,
        wholly: bool = True,
    ) -> None:
        self._patchers = list(patchers)
        self._memory_required = memory_required
        self._checkpointed = checkpointed
        self.checkpointing = checkpointing
        """Which blocks are checkpointed now."""
        self._wholly = wholly
        self.bytes_offloaded = 0
        """Of the weights, those that are not on the device which computes with them."""
        self._swaps: list[_Swap] = []
        self._options: list[tuple[SDClipModel, dict[str, Any]]] = []
        self._changes, self._checkpointed_now = ExitStack(), ExitStack()

    def __enter__(self) -> Loan:
        _wait_for_other_loans()
        try:
            self._take()
        except BaseException:
            _one_at_a_time.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._give_back()
        finally:
            _one_at_a_time.release()

    def set_checkpointing(self, checkpointing: Checkpointing) -> None:
        """Which blocks are checkpointed from now on, until the end of the loan."""
        self.checkpointing = checkpointing
        self._checkpointed_now.close()
        self._checkpointed_now.enter_context(self._checkpointed(checkpointing))

    def load_less(self) -> bool:
        """Half of the weights leave their device; False if none could."""
        if not self._by_device():
            return False
        before = self.bytes_offloaded
        self._give_back()
        memory.soft_empty_cache()
        for device, patchers in self._by_device().items():
            loaded = sum(patcher.loaded_size() for patcher in patchers)
            self._memory_required = max(self._memory_required, memory.get_free_memory(device) + loaded / 2)
        self._wholly = False
        self._take()
        return self.bytes_offloaded > before

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The originals are back while this lasts, so that the host may sample, load and unload as it likes."""
        self._give_back()
        try:
            yield  # after any other error the originals stay where they belong
        except Exception as error:
            if is_out_of_memory(error):  # so that training can go on without what did not fit
                _let_go(error)
                memory.soft_empty_cache()
                self._take()
            raise
        self._take()

    def _take(self) -> None:
        for patcher in self._patchers:
            _forget_old_marks(patcher)
        with torch.inference_mode():  # as the host itself would load
            memory.load_models_gpu(
                self._patchers, memory_required=int(self._memory_required), force_full_load=self._wholly
            )
            if not self._wholly:
                self._make_room()
        # Some modes of the host never load a model as a whole, whatever it is asked for.
        self.bytes_offloaded = sum(
            max(0, patcher.model_size() - patcher.loaded_size())
            for patchers in self._by_device().values()
            for patcher in patchers
        )
        if self.bytes_offloaded:
            self.checkpointing = Checkpointing.EVERYTHING
        try:
            for patcher in self._patchers:
                self._options += _clip_options(patcher.model)
                _swap_inference_tensors(patcher.model, self._swaps)
            self._changes.enter_context(training_kernels())
            self._changes.enter_context(weights_alone_quantised(patcher.model for patcher in self._patchers))
            self._changes.push(self._checkpointed_now)
            self.set_checkpointing(self.checkpointing)
        except BaseException:
            self._give_back()
            raise

    def _by_device(self) -> dict[torch.device, list[Any]]:
        """The patchers whose weights can be elsewhere than the device that computes with them."""
        found: dict[torch.device, list[Any]] = {}
        for patcher in self._patchers:
            if not memory.is_device_cpu(patcher.load_device):
                found.setdefault(patcher.load_device, []).append(patcher)
        return found

    def _make_room(self) -> None:
        """What the host leaves loaded although there is too little memory beside it: older ones never load less of a
        model that they have loaded, and on some devices a part of the memory is for weights in any case."""
        for device, patchers in self._by_device().items():
            for patcher in patchers:
                lacking = self._memory_required - memory.get_free_memory(device)
                if lacking > 0 and patcher.offload_device != device:
                    patcher.partially_unload(patcher.offload_device, lacking)

    def _give_back(self) -> None:
        self._changes.close()
        for swap in self._swaps:
            # Only where nobody replaced it meanwhile: blind restoring would leave a LoRA's weights in the model.
            if swap.owner.get(swap.name) is swap.trainable:
                swap.owner[swap.name] = swap.original
        self._swaps.clear()
        for encoder, options in self._options:
            vars(encoder).update(options)
        self._options.clear()


def _wait_for_other_loans() -> None:
    """Returns once this thread is the only one with a loan. Raises the host's interruption where a person cancels."""
    if _one_at_a_time.acquire(blocking=False):
        return
    _log.warning("Another run of Train Textual Inversion is under way; this one waits until it ends.")
    while not _one_at_a_time.acquire(timeout=_LOOK_EVERY):
        memory.throw_exception_if_processing_interrupted()


def _let_go(error: BaseException | None) -> None:
    """Empties the frames of an error and of those that led to it: they hold what did not fit."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _forget_old_marks(patcher: Any) -> None:
    """Of an unloaded model. The host leaves them on layers whose weights it casts in any case (text encoders). When it
    next loads a part of the model, it would take them for layers that fetch already, and these would lose their LoRA.
    """
    if patcher.loaded_size() == 0 and not patcher.model.model_lowvram:
        for module in patcher.model.modules():
            wipe_lowvram_weight(module)


def _swap_inference_tensors(root: nn.Module, swaps: list[_Swap]) -> None:
    for module in root.modules():
        # Some modules keep what they once computed as a plain attribute (rotary tables).
        for owner, is_parameter in ((module._parameters, True), (module._buffers, False), (vars(module), False)):
            for name, tensor in owner.items():
                if not isinstance(tensor, Tensor) or (_can_be_saved(tensor) and not tensor.requires_grad):
                    continue
                trainable = _without_inference_mark(tensor)
                swaps.append(
                    _Swap(
                        owner, name, tensor, nn.Parameter(trainable, requires_grad=False) if is_parameter else trainable
                    )
                )
    for swap in swaps:
        swap.owner[swap.name] = swap.trainable


def _can_be_saved(tensor: Tensor) -> bool:
    """Whether autograd can. A weight that the host has moved outside of inference mode, as it does when a person asks
    it to unload, is no inference tensor any longer, and has no version all the same.
    """
    try:
        return not tensor.is_inference() and tensor._version >= 0
    except RuntimeError:
        return False


def _without_inference_mark(tensor: Tensor) -> Tensor:
    """The same storage without the inference-mode mark.

    Other packs' own kinds of weights (GGUF) stay of their kind, and keep what they know about their numbers.
    """
    if is_quantised(tensor):
        return with_parts(tensor, _without_inference_mark)
    empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    trainable = empty.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
    if type(tensor) not in (Tensor, nn.Parameter):
        trainable = trainable.as_subclass(type(tensor))
        vars(trainable).update(vars(tensor))
    return trainable


def _clip_options(root: nn.Module) -> list[tuple[SDClipModel, dict[str, Any]]]:
    encoders = [m for m in root.modules() if isinstance(m, SDClipModel)]
    return [(m, {name: vars(m)[name] for name in _CLIP_OPTIONS if name in vars(m)}) for m in encoders]
