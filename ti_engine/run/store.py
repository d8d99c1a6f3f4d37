"""All runs in one folder: a run for each key, and more where one was trained anew."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.atomic import check_writable, remove_leftovers
from .folder import RunFolder, is_run_id
from .kept_run import KeptRun
from .lock import NoLockError, hold, hold_if_free

_LOCKS = ".locks"
_SHORTEST = 8  # digits of an id in a text
_LARGEST_GAP = 20  # runs with the same key that were deleted one after the other, with one before and one after them


@dataclass(frozen=True)
class RunSummary:
    """What a list of runs shows. about: config.json. facts: of the last state."""

    folder: RunFolder
    about: dict[str, Any]
    facts: dict[str, Any]
    size: int
    """Bytes."""
    written: float
    """When the state was written last, in seconds since 1970."""


@dataclass(frozen=True)
class RunStore:
    """root: the folder that holds the folders of runs. It need not exist."""

    root: Path

    def folder(self, run_id: str) -> RunFolder:
        """The folder of a run. Raises ValueError for what is not the id of a run: 32 hex digits."""
        if not is_run_id(run_id):
            raise ValueError(f"{run_id[:60]!r} is not the id of a run, which has 32 digits of 0-9 and a-f.")
        return RunFolder(self.root / run_id)

    def ids(self) -> list[str]:
        """Of all runs, also of those that cannot be read."""
        names = os.listdir(self.root) if os.path.isdir(self.root) else []
        return sorted(name for name in names if is_run_id(name))

    def find(self, beginning: str) -> RunFolder:
        """The run whose id begins so. Raises ValueError with a sentence where there is none, or more than one."""
        found = [one for one in self.ids() if one.startswith(beginning)] if beginning else []
        if not found:
            raise ValueError(f"There is no run {beginning[:60]!r} in {self.root}.")
        if len(found) > 1:
            raise ValueError(f"{len(found)} runs in {self.root} begin with {beginning!r}; write more of the id.")
        return self.folder(found[0])

    @contextmanager
    def open(
        self, key: str, about: Mapping[str, Any], retrain: bool, waiting: Callable[[str], None]
    ) -> Iterator[KeptRun]:
        """The newest run with this key, new if there is none or with `retrain`; no other process has it meanwhile.

        about: for config.json. waiting: called with a sentence while another process trains this run; may raise.
        A run that cannot be read stays where it is; a new one begins beside it, and `KeptRun.warnings` says so.
        """
        number = self._newest(key)
        warnings: list[str] = []
        with ExitStack() as locks:
            held, problem = self._take_lock(locks, run_id(key, number), waiting, warnings)
            folder, saved = RunFolder(self._path(key, number)), None
            while os.path.exists(folder.path):  # not Path.exists, which raises where a path is not allowed
                if not retrain:
                    try:
                        saved = folder.read()
                        break
                    except (ValueError, OSError) as error:
                        warnings.append(
                            f"The run in {folder.id} cannot be read: {error} It stays as it is, and a new run begins "
                            "beside it."
                        )
                number += 1
                folder = RunFolder(self._path(key, number))
                held, problem = self._take_lock(locks, folder.id, waiting, warnings)
            if held:  # else another process may be writing there
                remove_leftovers(folder.path)
                folder.remove_chunks(saved.facts["chunks"] if saved else 0)
            run = KeptRun(folder, saved, about, problem)
            run.warnings += warnings
            try:
                yield run
            finally:
                run.close()

    def runs(self) -> list[RunSummary]:
        """All runs that can be read, the newest first."""
        found = []
        for folder in map(self.folder, self.ids()):
            with contextlib.suppress(ValueError, OSError):
                if (facts := folder.facts()) is not None:
                    found.append(summary(folder, facts))
        return sorted(found, key=lambda run: run.written, reverse=True)

    def delete(self, folder: RunFolder) -> bool:
        """Deletes a run; False if some process trains it now. Raises OSError where the disk does not allow it."""
        with hold_if_free(self._lock_file(folder.id)) as free:
            if free and os.path.lexists(folder.path):  # else another process was faster
                shutil.rmtree(folder.path)
            return free

    def shrink(self, most_bytes: float, spared: str = "") -> list[RunSummary]:
        """Deletes finished runs, the oldest first, until all runs take up at most `most_bytes`; returns those deleted.

        spared: id of a run that stays. Unfinished runs are never deleted.
        """
        runs = self.runs()
        total, deleted = sum(run.size for run in runs), []
        for run in reversed(runs):
            if total <= most_bytes:
                break
            if run.facts["finished"] and run.folder.id != spared:
                with contextlib.suppress(OSError):  # one that cannot be deleted, such as a link, stays
                    if self.delete(run.folder):
                        total -= run.size
                        deleted.append(run)
        return deleted

    def _path(self, key: str, number: int) -> Path:
        return self.root / run_id(key, number)

    def _newest(self, key: str) -> int:
        """The number of the run with this key that began last; 1 if there is none. Others may have been deleted."""
        number = newest = 1
        while number - newest < _LARGEST_GAP:
            number += 1
            if os.path.exists(self._path(key, number)):
                newest = number
        return newest

    def _take_lock(
        self, locks: ExitStack, run: str, waiting: Callable[[str], None], warnings: list[str]
    ) -> tuple[bool, str]:
        """Holds the lock of a run until `locks` ends; returns whether it does, and a sentence where the disk cannot be
        written. Adds one to `warnings` where it takes no locks."""
        file = self._lock_file(run)
        try:
            check_writable(file.with_suffix(".json"))
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return False, f"The run cannot be kept on disk: {error}"
        try:
            locks.enter_context(hold(file, waiting))
        except NoLockError as error:  # and nothing that `waiting` raises
            warnings.append(f"The run is kept without a lock: {error} Do not train the same run twice at once.")
            return False, ""
        return True, ""

    def _lock_file(self, run: str) -> Path:
        return self.root / _LOCKS / f"{run}.lock"


def summary(folder: RunFolder, facts: dict[str, Any]) -> RunSummary:
    """Of a run whose state has these facts. Raises ValueError for a damaged config.json, OSError as the disk does."""
    return RunSummary(folder, folder.config(), facts, folder.size(), folder.state_file.stat().st_mtime)


def short_ids(ids: Sequence[str]) -> dict[str, str]:
    """Id -> its beginning, of at least eight digits, that tells it from all others: what `RunStore.find` takes."""
    return {
        one: next(
            (one[:n] for n in range(_SHORTEST, len(one)) if sum(other.startswith(one[:n]) for other in ids) == 1), one
        )
        for one in ids
    }


def run_id(key: str, number: int) -> str:
    """Of the first run with a key, which is the key itself, and of those that were trained anew."""
    return key if number == 1 else hashlib.sha256(f"{key} {number}".encode()).hexdigest()[:32]
