"""The demo model computes with one thread, and whatever computes next with as many as before."""

from __future__ import annotations

import importlib

import pytest
import torch

from ti_engine.cli import main
from ti_engine.demo import learn
from ti_engine.demo.threads import one_thread


@pytest.fixture(params=["", "2"])
def expected(request, monkeypatch, one_thread):
    """Two threads; the parameter is what OMP_NUM_THREADS asks for. The value: how many the demo model gets."""
    monkeypatch.setenv("OMP_NUM_THREADS", request.param)
    torch.set_num_threads(2)
    return 2 if request.param else 1


def test_the_number_comes_back_after_success_and_error(expected):
    with one_thread():
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("model", ["demo", "folder"])
@pytest.mark.parametrize("command", ["train a.png", "generate S* --embedding a.safetensors --output out"])
def test_commands(command, model, expected, monkeypatch):
    seen = []
    module = importlib.import_module(f"ti_engine.cli.{command.split()[0]}")
    monkeypatch.setattr(module, "run", lambda _: seen.append(torch.get_num_threads()) or 0)
    assert main([*command.split(), "--model", model]) == 0
    assert seen == [expected if model == "demo" else 2]
    assert torch.get_num_threads() == 2


def test_make_demo(expected, monkeypatch):
    def stop():
        raise KeyError(torch.get_num_threads())

    monkeypatch.setattr(learn, "example_pictures", stop)
    with pytest.raises(KeyError, match=str(expected)):
        learn.main()
    assert torch.get_num_threads() == 2
