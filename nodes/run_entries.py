"""The runs on disk as entries of a list, and which run an entry means."""

from __future__ import annotations

import contextlib
import functools
import time
from dataclasses import dataclass
from pathlib import Path

from ..ti_engine.run.folder import RunFolder
from ..ti_engine.run.store import RunStore, short_ids
from .shown.embedding_report import printable

NO_RUN = "no run on disk"
"""The only entry of an empty list: a combo without entries cannot be drawn."""
_FEWEST_DIGITS = 8  # of an id in an entry
_LONGEST_SHOWN = 100  # characters of an entry
_MOST_REMEMBERED = 4096  # entries


@dataclass(frozen=True)
class ListedRun:
    """A run as a list shows it. date: local time of its last state. steps: such as "6 steps" or "4 of 6 steps"."""

    folder: RunFolder
    word: str
    date: str
    steps: str
    short_id: str

    @property
    def entry(self) -> str:
        """One line, which `chosen_run` understands."""
        return f"{self.word}, {self.date}, {self.steps}, {self.short_id}"


def run_entries(store: RunStore) -> list[str]:
    """An entry for each run that can be read, the newest first; one that says so where there is none."""
    return [run.entry for run in listed_runs(store)] or [NO_RUN]


def listed_runs(store: RunStore) -> list[ListedRun]:
    """All runs that can be read, the newest first."""
    found: list[tuple[int, tuple[str, str, str], str]] = []
    for folder in map(store.folder, store.ids()):
        with contextlib.suppress(OSError):  # it has gone since it was listed
            written = folder.state_file.stat().st_mtime_ns
            if (told := _told(folder.path, written)) is not None:
                found.append((written, told, folder.id))
    short = short_ids([run_id for _, _, run_id in found])
    found.sort(reverse=True)
    return [ListedRun(store.folder(run_id), *told, short[run_id]) for _, told, run_id in found]


def chosen_run(store: RunStore, entry: str) -> RunFolder:
    """The run that an entry means. Only its last part counts, the beginning of the id: the rest changes as a run goes
    on. Raises ValueError with a sentence where there is no such run (any more), or more than one.
    """
    if entry == NO_RUN:
        raise ValueError("There is no run on disk yet. Train a word with Train Textual Inversion, then press R.")
    beginning = entry.split(",")[-1].strip()
    runs = [folder for folder in map(store.folder, store.ids()) if folder.id.startswith(beginning)]
    runs = [folder for folder in runs if folder.state_file.is_file()]
    if len(beginning) < _FEWEST_DIGITS or not runs:
        shown = printable(entry[:_LONGEST_SHOWN])
        raise ValueError(f"The run {shown!r} is not on disk any more. Press R and choose another one.")
    if len(runs) > 1:
        raise ValueError(f"{len(runs)} runs have ids that begin with {beginning}. Press R and choose again.")
    return runs[0]


def run_fingerprint(folder: RunFolder) -> str:
    """Changes whenever the run goes on or gets another preview."""
    files = [folder.state_file, folder.config_file, folder.path / "previews"]
    times = [file.stat().st_mtime_ns if file.exists() else 0 for file in files]
    return f"{folder.id} {times}"


@functools.lru_cache(_MOST_REMEMBERED)  # the host asks for the list several times for each prompt
def _told(path: Path, written: int) -> tuple[str, str, str] | None:
    """Word, date and steps of a run; None for one that cannot be read. written: st_mtime_ns of its state."""
    folder = RunFolder(path)
    try:
        facts, settings = folder.facts(), folder.config()["settings"]
        if facts is None:
            return None
        word, step, asked_for = str(facts["placeholder"]), int(facts["step"]), int(settings["steps"])
        steps = f"{step} steps" if facts["finished"] else f"{step} of {asked_for} steps"
    except (ValueError, KeyError, TypeError, OSError):
        return None
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(written / 1e9))
    return printable(word), date, steps
