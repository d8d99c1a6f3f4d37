"""The rows of a word that are said to reach the model are those that get a gradient."""

from __future__ import annotations

import pytest
import torch
from in_host import plugin
from small_families import SMALL, build

COUNT = 9
CAPTIONS = ["S* a photo", "photo " * 70 + "S*", "photo " * 124 + "S*", "photo " * 508 + "S*", "photo " * 520 + "S*"]


def with_gradient(backend, caption, rows):
    """Encoder key -> rows of `rows` that any number the model gets of `caption` depends on."""
    vectors = {key: part.clone().requires_grad_(True) for key, part in rows.items()}
    encoded = backend.encode([caption], {"S*": vectors}, differentiable=True)
    generator = torch.Generator().manual_seed(0)
    pairs = [(output, torch.randn(output.shape, generator=generator)) for output, _ in encoded.outputs]
    pairs = [(output, random) for output, random in pairs if output.requires_grad]
    if pairs:
        torch.autograd.backward(*zip(*pairs, strict=True))
    return {
        key: set() if part.grad is None else set(part.grad.any(1).nonzero().flatten().tolist())
        for key, part in vectors.items()
    }


@pytest.mark.parametrize("family", SMALL)
def test_rows_that_are_read_are_those_with_a_gradient(family):
    with torch.inference_mode():
        models = build(family)
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(*models)
        rows = {key: torch.randn(COUNT, info.width) * info.rms for key, info in backend.encoders.items()}
        with backend.lent(1, 64):
            read = backend.rows_read(CAPTIONS, "S*", COUNT)
            for number, caption in enumerate(CAPTIONS):
                got = with_gradient(backend, caption, rows)
                print(family, number, {k: len(v) for k, v in got.items()})
                assert {key: sets[number] for key, sets in read.items()} == got, caption[-20:]
