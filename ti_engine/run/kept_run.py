"""A run while it is trained: its folder follows it, at a small share of its time."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..data.contact_sheet import png_bytes
from ..files.atomic import append, sync_folder, write_atomically
from ..training.config import TrainConfig
from ..training.loop import TrainStep
from ..training.record import TrainRecord
from ..training.state import RunState
from .about import about_again
from .folder import README, RunFolder, SavedRun
from .key import steps_matter
from .saved_state import Snapshot, restore_state, take_snapshot
from .sealed_file import seal
from .trajectory import as_tail, chunk_tensors, evaluation_tensors, next_chunk, steps_between_kept, tail_in

PAUSE = 124
"""From one write to the next, as a multiple of what it took: writing takes a 125th of a run's time. With the snapshots
and the last write that is less than a hundredth."""
MOST_SECONDS = 10.0
"""Between two writes, however slow the disk is."""


class KeptRun:
    """A run whose lock this process holds.

    `keep` takes a snapshot after every update. It writes one whenever writing has taken less than a hundredth of the
    training time so far, and on a slow disk every ten seconds. Where the disk refuses, training goes on, `problem` is a
    sentence about it, and the next write tries everything again. Where the run on disk has more updates than are asked
    for now, it stays as it is.
    """

    def __init__(self, folder: RunFolder, saved: SavedRun | None, about: Mapping[str, Any], problem: str = "") -> None:
        """about: ready for JSON, what config.json says of settings, pictures and model."""
        self.folder, self.saved, self._about = folder, saved, about if saved is None else about_again(about, folder)
        self.problem = problem
        """Why the newest state is not on disk; empty if it is."""
        self.warnings: list[str] = []
        """About other files that were found where this run belongs."""
        self.notes: dict[str, str] = dict(saved.notes) if saved else {}
        """Short texts that come back with the run, such as what a step cost."""
        self.previews = {step: picture for step, picture in folder.previews() if self._belongs(step)}
        """Step -> picture [3, H, W] in 0..1, of 8 bits; None -> that of the result."""
        self._before = saved.seconds if saved else 0.0
        self._began = time.monotonic()
        self._latest: tuple[Snapshot, bool] | None = None  # not on disk yet, and whether the run is finished with it
        self._log = folder.log_lines(saved.step) if saved else []
        self._logged = 0  # lines that the log on disk is sure to begin with
        self._on_disk = saved.step if saved else None  # step of the state there
        self._wrote = False  # anything yet
        self._chunks: int = saved.facts["chunks"] if saved else 0  # that are on disk
        self._in_chunks: int = saved.step + 1 - len(tail_in(saved.tensors)["losses"]) if saved else 0  # states
        self._unsaved: set[int | None] = set()  # steps of previews that the disk has refused
        self._keeps_longer = False  # the run on disk has more updates than are asked for
        self._due = 0.0

    def _belongs(self, step: int | None) -> bool:
        """Whether a preview is of a state that the run on disk has: a kill may leave one that is ahead of it."""
        return self.saved is not None and (step is None or step <= self.saved.step)

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
        if self._is_longer(step.state):
            return
        self._latest = take_snapshot(step.state), False
        if not step.is_first:
            line = {"step": step.index, "loss": step.loss, "learning_rate": step.learning_rate}
            self._log.append(json.dumps({**line, "seconds": round(self.seconds, 3)}))
            self._forget_result()
        if time.monotonic() >= self._due:
            self._write()

    def keep_preview(self, step: int | None, picture: Tensor) -> Tensor:
        """Keeps a picture [3, H, W] in 0..1 of the state after `step`, or of the result; returns it in 8 bits, as every
        later reader sees it."""
        self.previews[step] = (picture.detach().float().cpu().clamp(0, 1) * 255).round() / 255
        if not self._keeps_longer:
            self._unsaved.add(step)
            self._write_previews()
        return self.previews[step]

    def finish(self, state: RunState, config: TrainConfig, stopped_by_hand: bool = False) -> None:
        """After the loop: writes the state with the compared candidates. A run that was stopped by hand or that trouble
        ended can go on later. Where no run can go on from here, also not with more steps, a long trajectory is thinned.
        """
        if self._is_longer(state):
            return
        finished = not stopped_by_hand and state.record.last_good is None
        if finished and steps_matter(config) and (every := steps_between_kept(state.record)) > 1:
            drawn = {step for step in self.previews if step is not None}  # what a person is most likely to pick
            state = replace(state, record=state.record.thinned(every, drawn))
        self._latest = take_snapshot(state), finished
        self._write()

    def close(self) -> None:
        """Writes what is not on disk yet; also after an error, with the state after the last whole update."""
        self._write()

    def _is_longer(self, state: RunState) -> bool:
        """Whether there are more updates on disk than were asked for. They stay, and nothing more is written."""
        if not self._keeps_longer and self.saved is not None and state.step < self.saved.step:
            self._keeps_longer = True
            for step in [step for step in self.previews if step is None or step > state.step]:
                del self.previews[step]
        return self._keeps_longer

    def _forget_result(self) -> None:
        """The picture of what the run had returned before it went on."""
        if self.previews.pop(None, None) is not None:
            self._unsaved.discard(None)
            with contextlib.suppress(OSError):
                self.folder.preview_file(None).unlink()

    def _write(self) -> None:
        if self._latest is None:
            return
        began = time.monotonic()
        try:
            self._write_files(*self._latest)
            self._on_disk, self._latest, self.problem = self._latest[0].step, None, ""
        except OSError as error:
            since = "" if self._on_disk is None else f" after step {self._on_disk}"
            self.problem = f"The run is not on disk{since}: {error}"
        now = time.monotonic()
        self._due = now + min(MOST_SECONDS, PAUSE * (now - began))

    def _write_files(self, snapshot: Snapshot, finished: bool) -> None:
        """Raises OSError where the state is not on disk afterwards. What the disk refuses of the rest comes with the
        next write."""
        folder, record, step = self.folder, snapshot.record, snapshot.step
        self._write_config()
        if record.every != 1 or not all(folder.chunk_file(number).is_file() for number in range(self._chunks)):
            self._chunks = self._in_chunks = 0
        while steps := next_chunk(record, self._in_chunks, step):
            file = folder.chunk_file(self._chunks)
            write_atomically(file, seal(chunk_tensors(record, steps), {}), overwrite=True)
            sync_folder(file.parent)  # a state on the disk without its chunks would be worth nothing
            self._chunks, self._in_chunks = self._chunks + 1, steps.stop
        self._write_log()
        tail = as_tail(chunk_tensors(record, range(self._in_chunks, step + 1)))
        tensors = snapshot.tensors | tail | evaluation_tensors(record, step)
        facts = {"chunks": self._chunks, "finished": finished, "seconds": round(self.seconds, 3), "notes": self.notes}
        write_atomically(folder.state_file, seal(tensors, snapshot.facts | facts), overwrite=True)
        if finished:
            sync_folder(folder.path)
            folder.remove_chunks(self._chunks)
        self._write_previews()

    def _write_config(self) -> None:
        """With the first write, and where somebody has deleted the folder meanwhile."""
        if self._wrote and self.folder.config_file.is_file():
            return
        if self._wrote:
            self._unsaved |= set(self.previews)
        with contextlib.suppress(OSError):
            config = json.dumps(self._about, indent=2).encode()
            write_atomically(self.folder.path / "README.txt", README.encode(), overwrite=True, synced=False)
            write_atomically(self.folder.config_file, config, overwrite=True, synced=False)
            self._wrote = True

    def _write_log(self) -> None:
        """Before the state, so that no line of an update that is on disk is missing. Where the program ends in between,
        the lines of updates that are not are dropped when the run goes on."""
        file = self.folder.log_file
        first = self._logged if file.is_file() else 0
        data = "".join(f"{line}\n" for line in self._log[first:]).encode()
        self._logged = 0  # until all of it is written
        with contextlib.suppress(OSError):
            if first:
                append(file, data)
            else:
                write_atomically(file, data, overwrite=True, synced=False)
            self._logged = len(self._log)

    def _write_previews(self) -> None:
        with contextlib.suppress(OSError):
            for step in list(self._unsaved):
                write_atomically(self.folder.preview_file(step), png_bytes(self.previews[step]), overwrite=True)
                self._unsaved.discard(step)
