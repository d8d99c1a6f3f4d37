"""Memory of a step at the true shapes of published models, counted without allocating it or their weights."""

from __future__ import annotations

import os

import pytest
import torch
from in_host import plugin
from proofs import record
from true_shapes import PUBLISHED, build

GB = 1e9
# Weights and a step of one picture, at its smallest.
GOALS = {"Stable Diffusion 1.5": 4 * GB, "SDXL 1.0": 8 * GB, "FLUX.1 dev": 20 * GB}


def told_width(vocabulary):
    """As EncoderInfo, of a table without contents."""
    return plugin("ti_engine").EncoderInfo(vocabulary._layer.weight.shape[1], 256, 1.0, 1.0)


# The others take minutes; they are for docs/models.md.
@pytest.mark.parametrize("name", PUBLISHED if os.environ.get("TI_PROOFS") else GOALS)
def test_memory(name, monkeypatch):
    monkeypatch.setattr(plugin("nodes.host.models.vocabulary").Vocabulary, "info", told_width)
    published = PUBLISHED[name]
    with torch.inference_mode(False):
        models = build(published)
        backend = plugin("nodes.host.backend").HostBackend(models.model, models.clip, models.vae)
        network = models.model.model.diffusion_model
        numbers = sum(t.numel() for t in [*network.parameters(), *network.buffers()])
        assert numbers / 1e9 == pytest.approx(published.billions, rel=0.05)
        resolution = published.resolution or backend.resolution
        side = resolution // published.factor
        shape = [*backend.latent_shape(resolution)[:-2], side, side]
        count = plugin("nodes.host.loan.step_count").StepCount(
            models.model, models.clip, backend.family, backend.blocks, shape
        )
        steps = [count.bytes(1, one) for one in plugin("ti_engine.memory.plan").Checkpointing]
    assert None not in steps and steps[-1] == min(steps)
    encoders = models.clip.patcher.model_size()
    weights = models.model.model_size() + encoders
    assert weights + steps[-1] < GOALS.get(name, 1e12)
    assert max(steps) < plugin("nodes.host.loan.memory_count").ample(
        models.model.model.memory_required([1, *shape]), encoders
    )
    record(
        name, about="memory", family=published.family, precision=published.precision, resolution=resolution,
        weights=weights, fastest=steps[0], smallest=steps[-1],
    )  # fmt: skip
