"""The same seed and number of threads give the same bits, whatever else the machine does. With two threads here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from ti_engine import TrainConfig, encode_training_set, train
from ti_engine.demo.examples import example_pictures
from ti_engine.demo.load import load_demo
from ti_engine.standalone.text import Conditioning, _ExtendedTable

pytestmark = pytest.mark.usefixtures("two_threads", "busy_machine")
TIMES = 40


@pytest.fixture
def two_threads(one_thread):  # which puts the number back
    torch.set_num_threads(2)


def gradients(function: Callable[[Tensor], Tensor], leaf: Tensor) -> list[Tensor]:
    """The gradient of `leaf` through `function`, many times over."""
    out = function(leaf)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    found = []
    for _ in range(TIMES):
        own = leaf.clone().requires_grad_()
        function(own).backward(weights)
        assert own.grad is not None
        found.append(own.grad)
    return found


@pytest.mark.parametrize("captions", [[0, 1, 0, 2, 0, 1, 2, 0], [0] * 8])
def test_captions_that_samples_share_collect_the_same_gradient(captions: list[int]) -> None:
    index = torch.tensor(captions)
    first, *others = gradients(lambda hidden: Conditioning({"h": hidden}, index).rows()["h"], torch.randn(3, 77, 128))
    assert all(torch.equal(first, other) for other in others)


def test_a_word_that_stands_in_many_captions_collects_the_same_gradient() -> None:
    table = _ExtendedTable(torch.nn.Embedding(5, 128).requires_grad_(False))
    ids = torch.randint(-2, 5, (32, 77), generator=torch.Generator().manual_seed(2))

    def embedded(word: Tensor) -> Tensor:
        table.rows = (word,)
        return table(ids)

    first, *others = gradients(embedded, torch.randn(2, 128))
    assert all(torch.equal(first, other) for other in others)


def test_a_run_gives_the_same_bits() -> None:
    backend = load_demo()
    # num_vectors and batch: large enough that torch divides the work between its threads.
    config = TrainConfig(steps=4, batch_size=8, num_vectors=2, resolution=64, evaluate_every=2, initial_words="heart")
    dataset = encode_training_set(backend, list(example_pictures()), config)
    records = [list(train(backend, dataset, config))[-1].record for _ in range(3)]
    for record in records[1:]:
        assert record.losses == records[0].losses and record.evaluations == records[0].evaluations
        for ours, theirs in zip(record.trajectory.values(), records[0].trajectory.values(), strict=True):
            assert torch.equal(ours["clip_l"], theirs["clip_l"])
