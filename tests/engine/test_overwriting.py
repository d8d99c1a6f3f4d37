"""Networks that add in place to what autograd keeps: torch's own guard is the reference."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch.autograd.graph import allow_mutation_on_saved_tensors

from ti_engine.memory import CountedMemory
from ti_engine.overwriting import overwriting_allowed


def gradient(guard):
    given = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(4, 6).requires_grad_()
    with guard():
        x = given * 2
        squares = x**2  # keeps x
        x += given.sin()
        cubes = x**3  # keeps the new x
        half = x[:, :3]
        both = half.exp() + half.square()  # a view, and a result that is kept
        torch.mul(x.detach(), 5, out=x.detach())
        (squares.sum() + cubes.sum() + both.sum()).backward()
    assert given.grad is not None
    return given.grad


def test_the_gradient_is_that_of_what_was_there():
    with pytest.raises(RuntimeError, match="inplace operation"):
        gradient(nullcontext)
    wanted = gradient(allow_mutation_on_saved_tensors)
    assert torch.equal(gradient(overwriting_allowed), wanted)


def test_nothing_is_kept_of_parts_that_no_gradient_goes_through():
    given = torch.ones(256, requires_grad=True)
    with overwriting_allowed(), CountedMemory([given]) as counted:
        used, unused = given * 2, (given * 3).exp()
        used.sum().backward()
        del used, unused
    assert counted.now["cpu"] == given.nbytes  # its gradient


def test_weights_that_are_told_are_not_copied():
    given, weight = torch.ones(1, 64, requires_grad=True), torch.rand(64, 64)
    with overwriting_allowed(lambda tensor: tensor is weight), CountedMemory([given, weight]) as counted:
        out = torch.nn.functional.linear(given, weight)
        assert counted.now["cpu"] == out.nbytes
        out.sum().backward()
    assert given.grad is not None and torch.allclose(given.grad, weight.sum(0, keepdim=True))
