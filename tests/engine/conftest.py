"""Makes `toy` importable by the tests of this folder; pytest's importlib mode puts no test folder on sys.path."""

import socket
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small only wait for each other on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """A test in a folder of its own with a picture and no network."""

    def refuse(*_):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("a.png")
