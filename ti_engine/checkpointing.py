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
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def checkpointed(
    blocks: Iterable[nn.Module], guard: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Iterator[None]:
    """While this lasts, `blocks` keep only their inputs; afterwards each one's `forward` is what it was.

    guard: what a run with gradients needs around it, such as overwriting_allowed for blocks that overwrite what
    autograd would have to keep. Where no gradient is asked for, nothing changes, nor for a block that is given a tensor
    to learn through in another way than as an argument, or inside of lists, tuples and dataclasses.
    """
    before: list[tuple[nn.Module, Any]] = []
    try:
        for block in blocks:
            before.append((block, vars(block).get("forward")))
            vars(block)["forward"] = _Checkpointed(block.forward, guard)
        yield
    finally:
        for block, forward in before:
            if forward is None:
                del vars(block)["forward"]
            else:
                vars(block)["forward"] = forward


class _Checkpointed:
    """The forward of a block."""

    def __init__(self, forward: Callable[..., Any], guard: Callable[[], AbstractContextManager[Any]]) -> None:
        self.forward, self.guard = forward, guard
        self.cannot = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        values = [*args, *kwargs.values()]
        tensors = list(_tensors(values))
        if not torch.is_grad_enabled() or not any(t.requires_grad for t in tensors) or self.cannot:
            return self.forward(*args, **kwargs)
        # The caller goes on writing into its options; the second run has to see them as the first one did.
        options = [copy.copy(v) if isinstance(v, dict) else v for v in values]
        answer: list[Any] = []

        def run(given: Sequence[Tensor], values: Sequence[Any] = options) -> tuple[Tensor, ...]:
            copies = (t.clone() for t in given)
            again = _with_tensors(values, copies)
            count = len(args)
            answer[:] = [self.forward(*again[:count], **dict(zip(kwargs, again[count:], strict=True)))]
            return tuple(_tensors(answer[0]))

        try:
            outputs = _Block.apply(run, values, self.guard, *tensors)
        except _HiddenTensorError:
            self.cannot = True
            return self.forward(*args, **kwargs)
        return _with_tensors(answer.pop(), iter(outputs))  # pyright: ignore[reportArgumentType]


class _HiddenTensorError(Exception):
    """A gradient would get lost: the block reads a tensor that is no argument."""


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, run: Callable[..., Any], values: Sequence[Any], guard: Callable[[], Any], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.run, ctx.guard = run, guard
        ctx.save_for_backward(*tensors)
        with torch.enable_grad():  # no graph comes of it, as all weights are frozen
            outputs = run([t.detach() for t in tensors], values)
        if any(t.requires_grad for t in outputs):
            raise _HiddenTensorError
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[3:]
        inputs = [t.detach().requires_grad_(wanted) for t, wanted in zip(ctx.saved_tensors, needed, strict=True)]
        leaves = [t for t in inputs if t.requires_grad]
        with torch.enable_grad(), ctx.guard():
            answers = zip(ctx.run(inputs), gradients, strict=True)
            pairs = [(answer, g) for answer, g in answers if g is not None and answer.requires_grad]
            if not pairs:  # what is learned through went in, and was not used
                return None, None, None, *(None for _ in needed)
            outputs, given = zip(*pairs, strict=True)
            found = iter(torch.autograd.grad(outputs, leaves, given, allow_unused=True))
        return None, None, None, *(next(found) if wanted else None for wanted in needed)


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
