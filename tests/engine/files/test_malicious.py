"""No file of the corpus has any effect: nothing runs, nothing fills the memory, and each is refused in a sentence."""

from __future__ import annotations

import contextlib
import copyreg
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bombs
import pytest
from file_bytes import torch_legacy, torch_zip
from malicious import EXTENSION, hostile_archives, live_pickles, other_pickles

SECONDS = 10  # for one file, on a busy machine
MEMORY = 64_000_000  # beyond the file's own size


def hostile_files(canary: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each. Every pickle comes bare, in PyTorch's archive and in its older format."""
    for kind, data in (live_pickles(str(canary)) | other_pickles(str(canary))).items():
        yield f"pickle: {kind}", data
        yield f"zip: {kind}", torch_zip(data, {"0": bytes(24)})
        yield f"legacy: {kind}", torch_legacy(data, {"0": bytes(24)})
    for kind, data in hostile_archives(str(canary)).items():
        yield f"archive: {kind}", data
    for group in (bombs.archives, bombs.pictures, bombs.headers):
        for kind, make in group().items():
            yield f"{group.__name__}: {kind}", make()


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What reading each came to, all in one process that is not this one, and that leaves the canary's cage empty."""
    folder, cage = tmp_path_factory.mktemp("corpus"), tmp_path_factory.mktemp("cage")
    names = {}
    for number, (name, data) in enumerate(hostile_files(cage / "canary")):
        names[f"{number:04}.pt"] = (name, len(data))
        (folder / f"{number:04}.pt").write_bytes(data)
    script = Path(__file__).with_name("measure.py")
    run = subprocess.run([sys.executable, script, folder], cwd=cage, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert list(cage.iterdir()) == []
    shutil.rmtree(folder)
    read = json.loads(run.stdout)
    return {name: read[file] | {"file": file, "size": size} for file, (name, size) in names.items()}


def test_every_file_is_refused_in_a_sentence(readings: dict[str, dict[str, Any]]) -> None:
    assert len(readings) > 500
    wrong = {
        name: reading["sentence"]
        for name, reading in readings.items()
        if not (sentence := reading["sentence"])
        or not sentence.startswith(f"{reading['file']} ")
        or not sentence.endswith((".", "?"))
        or not sentence.isprintable()
        or len(sentence) > 300
    }
    assert wrong == {}


def test_code_is_named(readings: dict[str, dict[str, Any]]) -> None:
    assert "asks Python for os.system" in readings["zip: os.system"]["sentence"]
    assert "asks Python for builtins.eval" in readings["legacy: builtins.eval"]["sentence"]
    assert "uses the pickle instruction EXT1" in readings["zip: EXT1"]["sentence"]
    assert all("os.mkdir" in readings[f"{kind}: GLOBAL REDUCE"]["sentence"] for kind in ("pickle", "zip", "legacy"))


def test_time_and_memory_are_held(readings: dict[str, dict[str, Any]]) -> None:
    slow = {name: reading["seconds"] for name, reading in readings.items() if reading["seconds"] > SECONDS}
    assert slow == {}
    large = {
        name: reading["bytes"]
        for name, reading in readings.items()
        if reading["bytes"] is not None and reading["bytes"] > reading["size"] + MEMORY
    }
    assert large == {}


@pytest.mark.skipif(os.name != "posix", reason="the payloads are commands of POSIX")
def test_the_payloads_are_live(tmp_path: Path) -> None:
    """Python's own unpickler runs every one of them."""
    cage = tmp_path / "cage"
    duds = []
    copyreg.add_extension("os", "mkdir", EXTENSION)
    try:
        for kind, data in live_pickles(str(cage / "canary")).items():
            cage.mkdir()
            with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
                pickle.loads(data)
            if not any(found.name.startswith("canary") for found in cage.iterdir()):
                duds.append(kind)
            shutil.rmtree(cage)
    finally:
        copyreg.remove_extension("os", "mkdir", EXTENSION)
    assert len(live_pickles("x")) >= 40
    assert duds == []
