"""A run while it is trained: its folder follows it, at a small share of its time."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..data.contact_sheet import png_bytes
from ..files.atomic import append, write_atomically
from ..training.loop import TrainStep
from ..training.record import TrainRecord
from ..training.state import RunState
from .folder import README, RunFolder, SavedRun
from .saved_state import Snapshot, restore_state, take_snapshot
from .sealed_file import seal
from .trajectory import as_tail, chunk_tensors, steps_per_chunk

LEAST_SHARE = 100
"""At most a hundredth of a run's time goes into writing."""


class KeptRun:
    """A run whose lock this process holds.

    `keep` takes a snapshot after every update and writes it as soon as that costs no more than a hundredth of the time:
    for steps that take longer than a hundred times as long as writing, that is after each. Where the disk refuses,
    training goes on, `problem` is a sentence about it, and the next write tries everything again.
    """

    def __init__(self, folder: RunFolder, saved: SavedRun | None, about: Mapping[str, Any], problem: str = "") -> None:
        """about: ready for JSON, what config.json says of settings, pictures and model."""
        self.folder, self.saved, self._about = folder, saved, about
        self.problem = problem
        """Why the newest state is not on disk; empty if it is."""
        self.warnings: list[str] = []
        """About other files that were found where this run belongs."""
        self.notes: dict[str, str] = dict(saved.notes) if saved else {}
        """Short texts that come back with the run, such as what a step cost."""
        self.previews = dict(folder.previews())
        """Step -> picture [3, H, W] in 0..1, of 8 bits; None -> that of the result."""
        self._before = saved.seconds if saved else 0.0
        self._began = time.monotonic()
        self._latest: Snapshot | None = None
        self._log = folder.log_lines(saved.step) if saved else []
        self._logged = 0  # lines that the log on disk is sure to begin with
        self._written = -1  # step of the state on disk
        self._chunks: int = saved.facts["chunks"] if saved else 0  # that are on disk
        self._due = 0.0

    @property
    def id(self) -> str:
        return self.folder.id

    @property
    def record(self) -> TrainRecord | None:
        """Of the run as it was found on disk."""
        return self.saved.record if self.saved else None

    @property
    def seconds(self) -> float:
        """Of training, over all times that the run was gone on with."""
        return self._before + time.monotonic() - self._began

    def restore(self, state: RunState) -> None:
        """Turns a fresh start into the state on disk, if there is one."""
        if self.saved:
            restore_state(state, self.saved.tensors, self.saved.facts, self.saved.record)

    def keep(self, step: TrainStep) -> None:
        """After every turn of the loop."""
        self._latest = take_snapshot(step.state)
        if not step.is_first:
            line = {"step": step.index, "loss": step.loss, "learning_rate": step.learning_rate}
            self._log.append(json.dumps({**line, "seconds": round(self.seconds, 3)}))
        if time.monotonic() >= self._due:
            self._write(self._latest, finished=False)

    def keep_preview(self, step: int | None, picture: Tensor) -> Tensor:
        """Keeps a picture [3, H, W] in 0..1 of the state after `step`, or of the result; returns it in 8 bits, as every
        later reader sees it."""
        self.previews[step] = (picture.clamp(0, 1) * 255).round() / 255
        with contextlib.suppress(OSError):  # the state's own refusal is the one to tell
            write_atomically(self.folder.preview_file(step), png_bytes(picture), overwrite=True)
        return self.previews[step]

    def finish(self, state: RunState, stopped_by_hand: bool = False) -> None:
        """After the loop: writes the state with the compared candidates. A run that was stopped by hand or that trouble
        ended can go on later."""
        self._latest = take_snapshot(state)
        self._write(self._latest, finished=not stopped_by_hand and state.record.last_good is None)
        self._latest = None

    def close(self) -> None:
        """Writes what is not on disk yet; also after an error, with the state after the last whole update."""
        if self._latest is not None and (self._latest.step > self._written or self.problem):
            self._write(self._latest, finished=False)

    def _write(self, snapshot: Snapshot, finished: bool) -> None:
        began = time.monotonic()
        try:
            self._write_files(snapshot, finished)
            self._written, self.problem = snapshot.step, ""
        except OSError as error:
            self.problem = f"The run is not on disk after step {max(0, self._written)}: {error}"
        now = time.monotonic()
        self._due = now + (LEAST_SHARE - 1) * (now - began)

    def _write_files(self, snapshot: Snapshot, finished: bool) -> None:
        folder, record, step = self.folder, snapshot.record, snapshot.step
        if not folder.config_file.is_file():  # a new folder, or one that somebody has deleted meanwhile
            self._chunks, self._written = 0, -1
            write_atomically(folder.path / "README.txt", README.encode(), overwrite=True)
        if self._written < 0:
            write_atomically(folder.config_file, json.dumps(self._about, indent=2).encode(), overwrite=True)
        length = steps_per_chunk(record.trajectory[0])
        full = (step + 1) // length - (not (step + 1) % length)  # the state's own file holds at least the newest
        for number in range(self._chunks, full):
            chunk = chunk_tensors(record, range(number * length, (number + 1) * length))
            write_atomically(folder.chunk_file(number), seal(chunk, {}), overwrite=True)
            self._chunks = number + 1
        self._write_log()
        tensors = snapshot.tensors | as_tail(chunk_tensors(record, range(full * length, step + 1)))
        facts = {"chunks": full, "finished": finished, "seconds": round(self.seconds, 3), "notes": self.notes}
        write_atomically(folder.state_file, seal(tensors, snapshot.facts | facts), overwrite=True)

    def _write_log(self) -> None:
        """Before the state, so that no line of an update that is on disk is missing. Where the program ends in between,
        the lines of updates that are not are dropped when the run goes on."""
        file = self.folder.log_file
        first = self._logged if file.is_file() else 0
        data = "".join(f"{line}\n" for line in self._log[first:]).encode()
        self._logged = 0  # until all of it is written
        if first:
            append(file, data)
        else:
            write_atomically(file, data, overwrite=True)
        self._logged = len(self._log)
