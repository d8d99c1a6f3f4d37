"""The four example pictures that come with the project: a heart that is teal above and coral below."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..data.pictures import load_picture

PICTURES = Path(__file__).with_name("pictures")


def example_paths() -> list[Path]:
    """The four picture files, in order."""
    return sorted(PICTURES.glob("*.png"))


def example_pictures() -> Tensor:
    """The four pictures as [4, 3, 128, 128] in 0..1."""
    return torch.stack([load_picture(path) for path in example_paths()])
