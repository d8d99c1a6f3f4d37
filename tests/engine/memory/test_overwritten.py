"""Networks that add in place to what autograd keeps: torch's own guard is the reference."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch.autograd.graph import allow_mutation_on_saved_tensors
from torch.testing._internal.two_tensor import TwoTensor

from ti_engine.memory.overwritten import overwriting_allowed
from ti_engine.memory.peak_count import CountedMemory


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


@pytest.mark.parametrize("columns", [5, 77])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_mask_that_is_padded_for_a_kernel_stays_padded(rows, columns):
    """As torch does it in front of attention on a GPU, which then wants every row to start at a multiple of 4.

    One row: what may be seen by none of a sample's tokens.
    """
    mask = torch.nn.functional.pad(torch.rand(2, 1, rows, columns), (0, 8 - columns % 8))[..., :columns]
    mask = mask.expand(2, 4, 3, columns)
    kept = []

    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, scores, mask):
            ctx.save_for_backward(mask)
            return scores + mask

        @staticmethod
        def backward(ctx, gradient):
            kept.extend(ctx.saved_tensors)
            return gradient, None

    with overwriting_allowed():
        Attention.apply(torch.zeros(2, 4, 3, columns, requires_grad=True), mask).sum().backward()
    (saved,) = kept
    assert torch.equal(saved, mask) and saved.data_ptr() != mask.data_ptr()
    assert saved.stride() == mask.stride() and saved.stride(0) % 8 == saved.stride(-2) % 8 == 0


def test_a_part_of_wide_rows_is_kept_alone():
    """A third of what one projection gives for query, key and value is no padding."""
    wide = torch.rand(4, 96, requires_grad=True)
    with overwriting_allowed(), CountedMemory([wide]) as counted:
        squares = wide[:, :32] ** 2
    assert counted.now["cpu"] == 2 * squares.nbytes  # what is kept for its gradient, and itself


def test_single_numbers_are_kept_too():
    given = torch.tensor(3.0, requires_grad=True)
    with overwriting_allowed():
        (given * 2).square().backward()
    assert float(given.grad) == 24  # pyright: ignore


def test_what_many_keep_is_copied_once():
    given, mask = torch.ones(8, requires_grad=True), torch.ones(1000)
    with overwriting_allowed(), CountedMemory([given, mask]) as counted:
        outs = [(given.sum() * mask)[0] for _ in range(10)]
        outs_bytes = 10 * mask.nbytes  # each is a view of one
        once = counted.now["cpu"] - outs_bytes
        mask += 1
        outs += [(given.sum() * mask)[0] for _ in range(10)]
        twice = counted.now["cpu"] - 2 * outs_bytes
    assert mask.nbytes <= once < 1.5 * mask.nbytes and 2 * mask.nbytes <= twice < 2.5 * mask.nbytes
    torch.stack(outs).sum().backward()
    assert given.grad is not None and torch.equal(given.grad, torch.full((8,), 30.0))


def test_a_copy_goes_with_the_last_graph_that_needs_it():
    given, mask = torch.ones(8, requires_grad=True), torch.ones(1000)
    with overwriting_allowed(), CountedMemory([given, mask]) as counted:
        (given.sum() * mask).sum().backward()
        assert counted.now["cpu"] < mask.nbytes


def test_weights_made_of_other_tensors_are_kept_as_they_are():
    """As quantised ones are that have been fetched: to compute with them is what makes them large."""
    given, weight = torch.ones(1, 100, requires_grad=True), TwoTensor(torch.ones(100, 100), torch.ones(100, 100))
    with overwriting_allowed(), CountedMemory([given, weight.a, weight.b]) as counted:
        out = given @ weight
        assert counted.now["cpu"] < 10 * given.nbytes < weight.a.nbytes
    out.sum().backward()
    assert type(given.grad) is TwoTensor and torch.equal(given.grad.a, torch.full((1, 100), 100.0))


def test_weights_that_are_told_are_not_copied():
    given, weight = torch.ones(1, 64, requires_grad=True), torch.rand(64, 64)
    with overwriting_allowed(lambda tensor: tensor is weight), CountedMemory([given, weight]) as counted:
        out = torch.nn.functional.linear(given, weight)
        assert counted.now["cpu"] == out.nbytes
        out.sum().backward()
    assert given.grad is not None and torch.allclose(given.grad, weight.sum(0, keepdim=True))
