"""What is known of tensors without contents."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ti_engine.memory.fake_tensors import CountedWithoutContents


@pytest.fixture(autouse=True)
def counted():
    with FakeTensorMode(allow_non_fake_inputs=True), CountedWithoutContents() as counted:
        yield counted


def test_numbers_from_python_are_known_through_views_and_arithmetic():
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    lengths = mask.sum(dim=1)
    assert lengths.tolist() == [3, 1] and int(lengths.max()) == 3
    assert mask.bool().nonzero().shape == (4, 2)
    assert torch.equal(mask, mask.clone()) and not torch.equal(mask, mask + 1)
    row = mask[0]
    row += 5  # also in what it is a view of
    assert mask.tolist() == [[6, 6, 6, 5], [1, 0, 0, 0]]
    assert (torch.zeros(2) + torch.arange(2)).tolist() == [0, 1]


def test_what_is_written_over_is_no_longer_known():
    states, mask = torch.empty(4), torch.ones(2, 2)
    row = mask[0]
    mask.view(4).copy_(states)
    assert row.tolist() == [1, 1]  # what is answered for any
    with pytest.raises(Exception, match="nonzero"):
        mask.nonzero()


def test_large_ones_are_not_known():
    with pytest.raises(Exception, match="nonzero"):
        torch.ones(1 << 17).nonzero()


def test_masks_pick_as_many_as_they_tell(counted):
    states, mask = torch.empty(4, 8, requires_grad=True), torch.tensor([True, False, True, True])
    picked = states[mask]
    assert picked.shape == (3, 8)
    result = torch.empty_like(states)
    result[mask] = picked * 2
    before = counted.now["cpu"]
    result.sum().backward()
    assert states.grad is not None and counted.now["cpu"] > before


def test_experts_share_the_tokens_evenly():
    chosen = torch.empty(6, 4).topk(2, dim=-1)[1].view(-1)
    assert [len((chosen == expert).nonzero()) for expert in range(4)] == [3, 3, 3, 3]
