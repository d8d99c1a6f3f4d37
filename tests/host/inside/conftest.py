"""Fixtures for tests inside the host's interpreter. Everything is made in inference mode, as its loaders do."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from comfy.cli_args import args

HERE = Path(__file__).parent
sys.path += [str(HERE), *(str(HERE / folder) for folder in ("models", "text", "loan"))]  # they borrow from one another
args.cpu = True  # before the host's modules look for devices
torch.set_num_threads(1)

import folder_paths  # noqa: E402
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
def output_folder(tmp_path):
    """The host's output folder, new for every test."""
    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path / "output"))
    yield tmp_path / "output"
    folder_paths.set_output_directory(before)


@pytest.fixture
def train(models, output_folder):
    """Runs the Train node as the host does, in inference mode; settings by name, each a list.

    With anew=False a run that is on disk is not trained again, as in the host; here it is, unless asked otherwise.
    """

    def run(anew=True, **changes):
        node = plugin("nodes.train").Train
        if anew:
            shutil.rmtree(output_folder, ignore_errors=True)
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
