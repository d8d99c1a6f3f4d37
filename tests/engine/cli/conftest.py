"""Makes `command_line` importable by the tests of this folder, as tests/engine/conftest.py does, and fills folders."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))

from command_line import rows

from ti_engine import TokenEmbedding
from ti_engine.demo import model
from ti_engine.files import save_embedding


@pytest.fixture(scope="session")
def demo_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the demo model's shape: the tests are about the commands and not about what is learned."""
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("model") / "demo.safetensors"
    parts = {
        "unet.": model.build_unet(),
        "text_encoder.": model.build_text_encoder(),
        "vae.": model.build_autoencoder(),
    }
    tensors = {
        prefix + name: tensor.half().contiguous()
        for prefix, part in parts.items()
        for name, tensor in part.state_dict().items()
    }
    save_file(tensors, file)
    return file


@pytest.fixture
def pictures_and_model(tmp_path: Path, demo_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own with two pictures, and random weights behind the model's name `demo`."""
    monkeypatch.setattr(model, "WEIGHTS", demo_weights)
    monkeypatch.chdir(tmp_path)
    for name, colour in (("a.png", "red"), ("b.jpg", "blue")):
        Image.new("RGB", (40, 50), colour).save(name)


@pytest.fixture
def word_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A folder of its own with words of several families and programs, and a picture."""
    monkeypatch.chdir(tmp_path)
    words = {"cat": rows(10, 2), "dog": rows(11, 2), "king": rows(12)}
    for name, vectors in words.items():
        save_embedding(TokenEmbedding({"clip_l": vectors}, f"<{name}>", {"note": name}), f"{name}.safetensors")
    xl = {"clip_l": rows(13), "clip_g": rows(14, width=1280)}
    save_embedding(TokenEmbedding(xl, "<xl>"), "xl.safetensors")
    save_file({"emp_params": rows(15)}, "onetrainer.safetensors")
    save_file({f"bundle_emb.{name}.clip_l": words[name] for name in ("cat", "dog")}, "bundle.safetensors")
    Image.new("RGB", (40, 20), "red").save("red.png")
    return SimpleNamespace(**words, **{f"xl_{key}": vectors for key, vectors in xl.items()})


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C is Python's own, also where the tests run in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
