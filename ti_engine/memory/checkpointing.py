"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174) for the blocks of a frozen network.

Autograd keeps nothing of what a block computes. When the backward asks for the first of it, the block runs again from
its inputs, and keeps it this time. torch.utils.checkpoint with use_reentrant=False does the same, but gives a wrong
gradient for blocks that add in place, also with copies of their inputs. The hooks that would copy what such a block
overwrites take the place of its own (benchmarks/checkpointing.py, docs/memory.md).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_flatten, tree_unflatten

from .overwritten import Keep

Forward = Callable[..., Any]
Guard = Callable[[], AbstractContextManager[Keep | None]]


@contextmanager
def checkpointed(blocks: Iterable[nn.Module], guard: Guard = nullcontext) -> Iterator[None]:
    """While this lasts, `blocks` keep only their inputs; afterwards each one's `forward` is what it was.

    guard: a context for the second run that gives what to keep in place of a tensor: overwriting_allowed for blocks
    that add in place. The first run has to be inside such a context as well, so that the inputs are copied.
    """

    def make(forward: Forward) -> Forward:
        def run(*args: Any, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return forward(*args, **kwargs)
            again = _SecondRun(forward, guard, args, kwargs)
            with saved_tensors_hooks(again.pack, again.unpack):
                return forward(*args, **kwargs)

        return run

    with lent_forwards(blocks, make):
        yield


@contextmanager
def lent_forwards(
    modules: Iterable[nn.Module], make: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """While this lasts, the `forward` of every module is what `make` makes of it; afterwards it is what it was."""
    before: list[tuple[nn.Module, Any]] = []
    try:
        for module in modules:
            before.append((module, vars(module).get("forward")))
            vars(module)["forward"] = make(module.forward)
        yield
    finally:
        for module, forward in reversed(before):
            if forward is None:
                del vars(module)["forward"]
            else:
                vars(module)["forward"] = forward


class _SecondRun:
    """Computes one call of a block again, when the backward asks for a tensor that the first run did not keep."""

    def __init__(self, forward: Forward, guard: Guard, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._forward, self._guard = forward, guard
        self._inputs, self._structure = tree_flatten((args, kwargs))  # a copy of the options, which may change
        self._tensors = [i for i, value in enumerate(self._inputs) if isinstance(value, Tensor)]
        tensors = [self._inputs[i] for i in self._tensors]
        self._kept: Any = _KeptTensors.apply(torch.empty(0, requires_grad=True), *tensors).grad_fn  # pyright: ignore
        for i, tensor in zip(self._tensors, tensors, strict=True):
            self._inputs[i] = tensor.requires_grad, tensor.stride()
        self._places: list[weakref.ref[_Place]] = []

    def pack(self, tensor: Tensor) -> _Place:
        place = _Place(tensor.shape)
        self._places.append(weakref.ref(place))
        return place

    def unpack(self, place: _Place) -> Tensor:
        if place.tensor is None:
            self._run()
        tensor, place.tensor = place.tensor, None
        if tensor is None or tensor.shape != place.shape:
            raise RuntimeError("A checkpointed block computed something else in its second run than in its first.")
        if tensor._version != place.version:
            raise RuntimeError("What a checkpointed block keeps has been modified by an inplace operation.")
        return tensor

    def _run(self) -> None:
        places = iter(self._places)

        def fill(tensor: Tensor) -> None:
            reference = next(places, None)
            if reference is None:
                raise _AllFilledError
            place = reference()
            if place is not None:  # else that part of the graph is gone
                kept = tensor if keep is None else keep(tensor)
                place.tensor, place.version = kept.detach() if kept.requires_grad else kept, kept._version

        inputs = list(self._inputs)
        with torch.enable_grad(), self._guard() as keep, saved_tensors_hooks(fill, _never):
            for i, tensor in zip(self._tensors, self._kept.saved_tensors, strict=True):
                learned, stride = self._inputs[i]
                leaf = tensor.detach().requires_grad_(learned)
                # Other blocks may have the same tensor, so one that may be overwritten is copied.
                inputs[i] = leaf if keep is None else _copied(leaf, stride)
            args, kwargs = tree_unflatten(inputs, self._structure)
            with suppress(_AllFilledError):
                self._forward(*args, **kwargs)


class _Place:
    """What autograd keeps instead of a tensor."""

    def __init__(self, shape: torch.Size) -> None:
        self.shape = shape
        self.tensor: Tensor | None = None
        self.version = 0


class _AllFilledError(Exception):
    """The rest of the second run is not needed."""


class _KeptTensors(torch.autograd.Function):
    """Has autograd keep tensors: it finds out if they are overwritten, and copies them where that is allowed."""

    @staticmethod
    def forward(ctx: Any, _: Tensor, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        return torch.empty(0)


def _copied(tensor: Tensor, stride: Sequence[int]) -> Tensor:
    """A copy with these strides: torch chooses by them what it computes, and so what the gradient needs."""
    once = tensor[tuple(slice(0, 1) if step == 0 else slice(None) for step in stride)]  # where it is expanded
    return tensor.new_empty_strided(once.shape, stride).copy_(once).expand(tensor.shape)


def _never(_: object) -> Tensor:
    raise AssertionError("the second run has no backward")
