"""Fixtures for tests inside the host's interpreter. Everything is made in inference mode, as its loaders do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from comfy.cli_args import args

HERE = Path(__file__).parent
sys.path += [str(HERE), *(str(HERE / folder) for folder in ("models", "text", "loan"))]  # they borrow from one another
args.cpu = True  # before the host's modules look for devices
torch.set_num_threads(1)

from in_host import REFERENCE, plugin  # noqa: E402

SETTINGS = dict(
    steps=[3], learning_rate=[0.01], batch_size=[2], num_vectors=[1], initial_words=["circle"], placeholder=["S*"],
    what=["object"], seed=[3], resolution=[64], preview_every=[0],
)  # fmt: skip


@pytest.fixture
def models():
    """MODEL, CLIP and VAE of a demo model with random weights, fresh for every test."""
    with torch.inference_mode():
        return plugin("nodes.host.models.demo").load_demo_models(REFERENCE / "demo.safetensors")


@pytest.fixture
def backend(models):
    with torch.inference_mode(False):
        return plugin("nodes.host.backend").HostBackend(*models)


@pytest.fixture
def train(models):
    """Runs the Train node as the host does, in inference mode; settings by name, each a list."""

    def run(**changes):
        node = plugin("nodes.train").Train
        node.finished = plugin("nodes.finished_runs").FinishedRuns()  # or the second run of a test would be the first
        sockets = dict(model=[models.model], clip=[models.clip], vae=[models.vae])
        with torch.inference_mode():
            pictures = [torch.rand(2, 64, 80, 3, generator=torch.Generator().manual_seed(0))]
            return node.execute(**{**sockets, "images": pictures, **SETTINGS, **changes}).args

    return run


@pytest.fixture
def word():
    def make(num_vectors=1, width=128, placeholder="S*"):
        rows = torch.randn(num_vectors, width, generator=torch.Generator().manual_seed(5)) * 0.02
        return plugin("ti_engine").TokenEmbedding({"clip_l": rows}, placeholder)

    return make
