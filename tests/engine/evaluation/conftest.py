"""A small CLIP and a small DINO for the tests of this folder."""

from pathlib import Path

import pytest
from small_towers import write_clip, write_dino


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("towers") / "small-clip")


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dino(tmp_path_factory.mktemp("towers") / "small-dino")
