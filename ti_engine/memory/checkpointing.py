"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174) for the blocks of a frozen network.

A block keeps what went into it and nothing else; when its gradient is asked for it runs once more. torch's own
checkpoint replays a block that adds to its input in place from the input as it was left, and says nothing. Here a block
only ever gets copies, so that the second run starts from what the first one did.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import compress
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

Forward = Callable[..., Any]


@contextmanager
def checkpointed(
    blocks: Iterable[nn.Module], guard: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Iterator[None]:
    """While this lasts, `blocks` keep only their inputs; afterwards each one's `forward` is what it was.

    guard: what a run with gradients needs around it, such as overwriting_allowed for blocks that overwrite what
    autograd would have to keep. Where no gradient is asked for, nothing changes, nor for a block that is given a tensor
    to learn through in another way than as an argument, or inside of lists, tuples and dataclasses.
    """
    with lent_forwards(blocks, lambda forward: _Checkpointed(forward, guard)):
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


class _Checkpointed:
    """The forward of a block."""

    def __init__(self, forward: Forward, guard: Callable[[], AbstractContextManager[Any]]) -> None:
        self.forward, self.guard = forward, guard
        self.cannot = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        values = [*args, *kwargs.values()]
        tensors = list(_tensors(values))
        if not torch.is_grad_enabled() or not any(t.requires_grad for t in tensors) or self.cannot:
            return self.forward(*args, **kwargs)
        count, names = len(args), tuple(kwargs)  # kept for the second run; the arguments themselves are not

        def run(values: Sequence[Any], copies: Sequence[Tensor]) -> Any:
            again = _with_tensors(values, iter(copies))
            return self.forward(*again[:count], **dict(zip(names, again[count:], strict=True)))

        # The caller goes on writing into its options; the second run has to see them as the first one did. The tensors
        # are left to autograd alone, which lets go of them one block after the other.
        options = [copy.copy(v) if isinstance(v, dict) else v for v in values]
        options = _with_tensors(options, (torch.empty(0) for _ in tensors))
        result = _BlockResult()
        try:
            computed = iter(_Block.apply(run, values, options, result, self.guard, *tensors))  # pyright: ignore
        except _HiddenTensorError:
            self.cannot = True
            return self.forward(*args, **kwargs)
        return _with_tensors(result.answer, (next(computed) if i is None else tensors[i] for i in result.inputs))


class _BlockResult:
    """What a block has answered besides the tensors that it has computed."""

    answer: Any
    inputs: list[int | None]
    """Of each tensor in the answer: which input it is, untouched; None if it has been computed."""


class _HiddenTensorError(Exception):
    """A gradient would get lost: the block reads a tensor that is no argument."""


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        run: Callable[..., Any],
        values: Sequence[Any],
        options: Sequence[Any],
        result: _BlockResult,
        guard: Callable[[], AbstractContextManager[Any]],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.run, ctx.options, ctx.guard = run, options, guard
        ctx.set_materialize_grads(False)
        leaves = _leaves(tensors, ctx.needs_input_grad)
        # A graph that keeps nothing tells which outputs have a gradient: one that is claimed for the others, such as
        # T5's table of distances, would be computed in every block after this one.
        with torch.enable_grad(), guard(), saved_tensors_hooks(lambda _: None, _never):
            copies = [t.clone() for t in leaves]
            versions = [t._version for t in copies]
            with _Reading() as reading:
                result.answer = run(values, copies)
        # Not what is given in vain: umT5's layers get the one before's table of distances, and make their own.
        pairs = zip(tensors, copies, strict=True)
        ctx.save_for_backward(*(t if reading.blind or id(c) in reading.read else torch.empty(0) for t, c in pairs))
        outputs = list(_tensors(result.answer))
        if not _learned_through(outputs) <= {id(leaf) for leaf in leaves}:
            raise _HiddenTensorError
        # An input that is handed on, such as T5's table of distances, stays the caller's own tensor: a new one would
        # be kept by the block after this one, and so on.
        untouched = {id(t): i for i, (t, v) in enumerate(zip(copies, versions, strict=True)) if t._version == v}
        result.inputs = [untouched.get(id(t)) for t in outputs]
        ctx.computed = [i is None for i in result.inputs]
        outputs = [*compress(outputs, ctx.computed)]
        given = tuple(t.detach() for t in outputs)
        ctx.mark_non_differentiable(*(g for g, t in zip(given, outputs, strict=True) if not t.requires_grad))
        return given

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs = _leaves(ctx.saved_tensors, ctx.needs_input_grad)
        leaves = [t for t in inputs if t.requires_grad]
        with torch.enable_grad(), ctx.guard():
            outputs = compress(_tensors(ctx.run(ctx.options, [t.clone() for t in inputs])), ctx.computed)
            answers = zip(outputs, gradients, strict=True)
            outputs, given = zip(*((t, g) for t, g in answers if g is not None and t.requires_grad), strict=True)
            found = iter(torch.autograd.grad(outputs, leaves, given, allow_unused=True))
        return *_NO_TENSORS, *(next(found) if t.requires_grad else None for t in inputs)


class _Reading(TorchFunctionMode):
    """Finds out which tensors torch's functions are given, but for those inside of torch.jit."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[int] = set()
        """Their ids."""
        self.blind = False
        """Whether something is compiled, in which nothing can be seen."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_compiling():
            self.blind = True
            return func(*args, **kwargs)
        self.read.update(id(t) for t in _tensors([*args, *kwargs.values()]))
        return func(*args, **kwargs)


_NO_TENSORS = (None,) * 5  # as many as _Block.forward takes before them


def _never(_: object) -> Tensor:
    raise AssertionError("the first run has no backward")


def _leaves(tensors: Sequence[Tensor], needed: Sequence[bool]) -> list[Tensor]:
    wanted = needed[len(_NO_TENSORS) :]
    return [t.detach().requires_grad_(grad) for t, grad in zip(tensors, wanted, strict=True)]


def _learned_through(outputs: Sequence[Tensor]) -> set[int]:
    """The ids of the tensors that the graph of `outputs` ends in."""
    found, seen = set(), set()
    ahead = [t.grad_fn for t in outputs if t.grad_fn is not None]
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            found.add(id(leaf))
        ahead += [following for following, _ in node.next_functions if following is not None]
    return found


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and dataclasses, in order; not those of dictionaries, which are options."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))


def _with_tensors(value: Any, tensors: Iterator[Tensor]) -> Any:
    """`value` with other tensors in the places that `_tensors` finds, in the same order."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, (list, tuple)):
        parts = [_with_tensors(part, tensors) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        twin = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(twin, field.name, _with_tensors(getattr(value, field.name), tensors))
        return twin
    return value
