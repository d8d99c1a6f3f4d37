"""What is known of fake tensors, and what is answered for the rest."""

from __future__ import annotations

import pytest
import torch

from ti_engine.memory.fake_tensors import CountedFakeMemory, fake_tensors


@pytest.fixture(autouse=True)
def counted():
    with fake_tensors(), CountedFakeMemory() as counted:
        yield counted


def test_numbers_from_python_are_known_through_views_and_arithmetic():
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    lengths = mask.sum(dim=1)
    assert lengths.tolist() == [3, 1] and int(lengths.max()) == 3
    assert mask.bool().nonzero().shape == (4, 2)
    assert torch.equal(mask, mask.clone()) and not torch.equal(mask, mask + 1)


def test_what_is_written_over_is_no_longer_known():
    states, mask = torch.empty(4), torch.tensor([[1, 1], [1, 1]])
    row = mask[0]
    mask.view(4).copy_(states)
    assert row.tolist() == [1, 1]  # what is answered for any
    with pytest.raises(Exception, match="nonzero"):
        mask.nonzero()


def test_large_ones_are_not_known():
    with pytest.raises(Exception, match="nonzero"):
        torch.tensor([1] * (1 << 17)).nonzero()


def test_numbers_read_from_tensors_that_nobody_knows():
    unknown = torch.empty(3)
    assert unknown.sum().item() == 1.0 and not bool((unknown > 0).any()) and int(unknown.argmax()) == 1


def test_experts_share_the_tokens_evenly(counted):
    states, chosen = torch.empty(12, 8, requires_grad=True), torch.empty(6, 4).topk(2, dim=-1)[1].view(-1)
    result = torch.empty_like(states)
    for expert in range(4):
        picked = states[chosen == expert]
        assert picked.shape == (3, 8)
        result[chosen == expert] = picked * 2
    before = counted.now["cpu"]
    result.sum().backward()
    assert states.grad is not None and counted.now["cpu"] > before
