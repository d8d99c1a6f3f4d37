"""The folder of a run: which files it holds, and how they are read."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..training.config import TrainConfig
from ..training.record import TrainRecord
from .key import steps_matter
from .plausible import check_about, check_facts, check_tensors
from .saved_state import restore_record, vectors_in
from .sealed_file import read_facts, unseal
from .trajectory import add_chunk, add_evaluations, tail_in

README = """\
This folder is one training run of Textual Inversion.

config.json        settings, pictures and model, to read
log.jsonl          one line for each update: step, loss, learning rate, seconds since the start of the run
state.safetensors  all that the run needs to go on exactly where it was
trajectory/        the vectors after every update, but for the newest, which the state holds
previews/          pictures drawn while the run went on, by step, and of its result

Delete the folder to forget the run. Nothing else refers to it.
"""
_CHUNK = re.compile(r"\d{6}\.safetensors")
_PREVIEW = re.compile(r"\d{7}")
_RESULT = "result"
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class SavedRun:
    """A run as it was written last. tensors, facts: of its snapshot."""

    folder: RunFolder
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    record: TrainRecord

    @property
    def finished(self) -> bool:
        """Whether it ended by itself: at its last step, or because the loss no longer fell."""
        return self.facts["finished"]

    def is_result_of(self, config: TrainConfig) -> bool:
        """Whether a run with these settings, and the same key, is over with this state."""
        return self.finished and (steps_matter(config) or self.step == config.steps)

    @property
    def step(self) -> int:
        return self.facts["step"]

    @property
    def seconds(self) -> float:
        """That it was trained for."""
        return self.facts["seconds"]

    @property
    def notes(self) -> dict[str, str]:
        """What whoever trained it has written beside it."""
        return self.facts["notes"]


@dataclass(frozen=True)
class RunFolder:
    """path: the folder, called by the run's id of 32 hex digits."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def log_file(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def state_file(self) -> Path:
        return self.path / "state.safetensors"

    def chunk_file(self, number: int) -> Path:
        return self.path / "trajectory" / f"{number:06d}.safetensors"

    def preview_file(self, step: int | None) -> Path:
        """Of the state after `step`, or of the result."""
        return self.path / "previews" / (f"{_RESULT}.png" if step is None else f"{step:07d}.png")

    def config(self) -> dict[str, Any]:
        """What config.json holds. Raises ValueError for a damaged file, OSError where it cannot be read."""
        try:
            return check_about(json.loads(self.config_file.read_text("utf-8")))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.config_file.name} is damaged.") from error

    def log_lines(self, last: int) -> list[str]:
        """The lines of the log up to that of the update `last`, as far as they can be read."""
        try:
            lines = self.log_file.read_text("utf-8", errors="replace").splitlines()
        except OSError:
            return []
        return [line for line in lines if 0 < _step_of(line) <= last]

    def facts(self) -> dict[str, Any] | None:
        """How far the run is, from the head of its state; None before the first one was written. Raises as `read`."""
        return check_facts(read_facts(self.state_file)) if self.state_file.is_file() else None

    def read(self) -> SavedRun | None:
        """The run as it was written last; None before that.

        Raises ValueError with a sentence for damaged or foreign files and for a newer format, OSError where they cannot
        be read.
        """
        if not self.state_file.is_file():
            return None
        written = self.state_file.stat().st_mtime_ns
        try:
            return self._read()
        except FileNotFoundError as error:
            if self.state_file.stat().st_mtime_ns == written:
                raise ValueError("a part of its trajectory is missing.") from error
        return self._read()  # the run has ended meanwhile, and was thinned

    def _read(self) -> SavedRun:
        tensors, facts = unseal(self.state_file)
        facts = check_facts(facts)
        check_tensors(tensors, facts)
        try:
            record = restore_record(tensors, facts)
            for number in range(facts["chunks"]):
                add_chunk(record, unseal(self.chunk_file(number))[0])
            add_chunk(record, tail_in(tensors))
            add_evaluations(record, tensors)
        except (KeyError, TypeError) as error:
            raise ValueError("its state is incomplete.") from error
        shapes = {key: rows.shape for key, rows in vectors_in(tensors).items()}
        if (
            len(record.losses) != facts["step"]
            or not record.has(range(0, facts["step"] + 1, facts["every"]))
            or any({key: rows.shape for key, rows in state.items()} != shapes for state in record.trajectory.values())
        ):
            raise ValueError("its trajectory is incomplete.")
        return SavedRun(self, tensors, facts, record)

    def saved(self) -> SavedRun:
        """`read`, for a run that somebody has chosen. Raises ValueError with a sentence that names the run where it
        cannot be read, or is not there (any more)."""
        try:
            saved = self.read()
        except (ValueError, OSError) as error:
            raise ValueError(f"The run {self.id} cannot be read: {error}") from error
        if saved is None:
            raise ValueError(f"The run {self.id} is not on disk any more, or has no state yet.")
        return saved

    def preview_files(self) -> list[tuple[int | None, Path]]:
        """(step, file) in the order of the steps; the result comes last, with None for its step."""
        try:
            names = sorted(os.listdir(self.path / "previews"))
        except OSError:
            return []
        stems = [name.removesuffix(".png") for name in names if name.endswith(".png")]
        steps = [int(stem) for stem in stems if _PREVIEW.fullmatch(stem)] + [None] * (_RESULT in stems)
        return [(step, self.preview_file(step)) for step in steps]

    def previews(self) -> Iterator[tuple[int | None, Tensor]]:
        """(step, picture [3, H, W] in 0..1 of 8 bits) of all that can be read, in the order of `preview_files`."""
        for step, file in self.preview_files():
            try:
                picture = _read_png(file)
            except Exception:  # Pillow raises nearly anything; the picture is drawn again
                continue
            yield step, picture

    def remove_chunks(self, first: int) -> None:
        """Deletes the chunks from number `first` on, which belong to no state: what a killed write has left, and what a
        thinned trajectory no longer has. For whoever alone writes here."""
        with contextlib.suppress(OSError):
            for file in (self.path / "trajectory").iterdir():
                if _CHUNK.fullmatch(file.name) and int(file.stem) >= first:
                    file.unlink()

    def size(self) -> int:
        """Bytes of all its files."""
        return sum(map(_size, self.path.rglob("*")))


def is_run_id(text: str) -> bool:
    """Whether `text` can be the id of a run, and so is no path."""
    return _ID.fullmatch(text) is not None


def _size(file: Path) -> int:
    """Bytes of a file; 0 for a folder or a link, and for what is gone since it was listed."""
    try:
        status = file.lstat()
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _step_of(line: str) -> float:
    """Of a line of the log; infinity for a line that is not whole."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return math.inf


def _read_png(file: Path) -> Tensor:
    with Image.open(file) as image:
        pixels = image.convert("RGB")
    levels = torch.frombuffer(bytearray(pixels.tobytes()), dtype=torch.uint8)
    return levels.view(pixels.height, pixels.width, 3).permute(2, 0, 1) / 255
