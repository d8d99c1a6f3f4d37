"""The command line as the tests of this folder call it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ti_engine.cli import main
from ti_engine.files import load_embedding

Output = pytest.CaptureFixture[str]
# A training that takes a moment.
QUICK = [
    "--model",
    "demo",
    "--steps",
    "2",
    "--batch-size",
    "2",
    "--resolution",
    "64",
    "--evaluate-every",
    "1",
    "--quiet",
]


def run(*arguments: str) -> int:
    """The exit code of a command, argparse's own included."""
    try:
        return main(arguments)
    except SystemExit as exit:
        return int(exit.code or 0)


def refused(arguments: Sequence[str], capsys: Output) -> str:
    """What a command answers to bad input: a sentence and exit code 2, no result, and no file touched."""
    before = _content()
    assert run(*arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.strip().splitlines()[-1].startswith("textual-inversion")
    assert "Traceback" not in streams.err
    assert _content() == before
    return streams.err


def _content() -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}


def rows(seed: int, count: int = 1, width: int = 768) -> Tensor:
    """Random vectors [count, width]."""
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def vectors_in(file: str) -> Tensor:
    return load_embedding(file).vectors["clip_l"]
