"""What arrives at the sockets of Train Textual Inversion."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode


@pytest.fixture
def inputs(nodes):
    return importlib.import_module("ti_plugin.nodes.training_input")


def test_batches_of_any_size_become_pictures(inputs):
    pictures, _ = inputs.split_pictures([torch.rand(2, 20, 30, 3), torch.rand(1, 64, 32, 3)])
    assert [list(p.shape) for p in pictures] == [[3, 20, 30], [3, 20, 30], [3, 64, 32]]


@pytest.mark.parametrize(("pixel", "rgb"), [([0.2], [0.2] * 3), ([0, 0, 0, 0], [1] * 3), ([0.5, 1], [0.5] * 3)])
def test_grey_and_transparency(inputs, pixel, rgb):
    (picture,), _ = inputs.split_pictures([torch.tensor(pixel, dtype=torch.float32).expand(1, 16, 16, -1)])
    assert torch.allclose(picture[:, 0, 0], torch.tensor(rgb, dtype=torch.float32))


@pytest.mark.parametrize(("thing", "found"), [(None, "NoneType"), (3, "int"), (torch.rand(8, 8, 3), "[8, 8, 3]")])
def test_what_is_no_picture_is_named(inputs, thing, found):
    with pytest.raises(ValueError, match="connect an IMAGE") as error:
        inputs.split_pictures([torch.rand(1, 16, 16, 3), thing])
    assert found in str(error.value)


def test_pictures_are_no_inference_tensors(inputs):
    with torch.inference_mode():
        batch = torch.rand(1, 16, 16, 3)
        with torch.inference_mode(False):
            (picture,), _ = inputs.split_pictures([batch])
    assert not picture.is_inference()


def test_pictures_come_to_system_memory(inputs):
    """Where the host holds them elsewhere (--gpu-only)."""
    with FakeTensorMode():
        (here, there), _ = inputs.split_pictures([torch.rand(1, 16, 16, 3), torch.rand(1, 16, 16, 3, device="cuda")])
    assert here.device == there.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("texts", "lines"),
    [
        (None, []),
        ([], []),
        (["one S*\n\ntwo S*\n\n"], ["one S*", "", "two S*", ""]),
        (["one S*", "two S*"], ["one S*", "two S*"]),
        (["one S*\r\ntwo S*"], ["one S*", "two S*"]),
        (["one S*\n on grass\n", "", "two S*"], ["one S* on grass", "", "two S*"]),
    ],
)
def test_captions_are_lines_or_a_list(inputs, texts, lines):
    assert inputs.caption_lines(texts) == lines


def test_pictures_are_numbered(inputs):
    assert inputs.picture_names(2) == ["Picture 1", "Picture 2"]


def test_what_is_white_on_transparent_is_named_by_its_number(inputs):
    logo = torch.zeros(1, 20, 20, 4)
    logo[:, 5:15, 5:15] = 1
    pictures, (warning,) = inputs.split_pictures([torch.rand(2, 20, 30, 3), logo])
    assert len(pictures) == 3 and float(pictures[2].min()) == 1
    assert warning.startswith("Picture 3 is white on transparent")
