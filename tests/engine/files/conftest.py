"""Makes the builders of hostile files importable by the tests of this folder, as tests/engine/conftest.py does."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ti_engine.files import EmbeddingFile, read_embedding_file

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def a1111_content() -> dict[str, object]:
    """What A1111 keeps of a word."""
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": torch.randn(2, 768, generator=torch.Generator().manual_seed(1))},
        "name": "cat",
        "step": 100,
        "sd_checkpoint": None,
        "sd_checkpoint_name": "model",
    }


@pytest.fixture(scope="session")
def a1111_picture(a1111_content: dict[str, object]) -> bytes:
    """The same in a PNG."""
    from ti_engine.files.containers.picture_file import write_picture

    noise = torch.randint(0, 256, (256 * 64 * 3,), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    return write_picture(a1111_content, Image.frombytes("RGB", (64, 256), bytes(noise.tolist())))


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., EmbeddingFile]:
    """Writes `content` as a program would and reads it back. Every name ends in .pti, which says nothing."""

    def write_and_read(content: Any, metadata: dict[str, str] | None = None, **options: Any) -> EmbeddingFile:
        file = tmp_path / "my cat.pti"
        if options.pop("pickled", False):
            torch.save(content, file)
        else:
            save_file(content, file, metadata)
        return read_embedding_file(file, **options)

    return write_and_read
