"""The folder of runs, and runs that are named by the beginning of their id, which several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..run.folder import SavedRun
from ..run.store import RunStore

FOLDER = "textual_inversion"


def add_runs_flag(parser: argparse.ArgumentParser, default: str = FOLDER) -> None:
    parser.add_argument("--runs", default=default, metavar="FOLDER", help=f"where runs are kept [{FOLDER}]")


def store_of(arguments: argparse.Namespace) -> RunStore:
    return RunStore(Path(arguments.runs))


def read_run(store: RunStore, beginning: str) -> SavedRun:
    """The run whose id begins so. Raises ValueError with a sentence where there is none, or it cannot be read."""
    folder = store.find(beginning)
    try:
        saved = folder.read()
    except (ValueError, KeyError, TypeError) as error:
        reason = str(error) if isinstance(error, ValueError) else "its state is incomplete."
        raise ValueError(f"The run {folder.id} cannot be read: {reason}") from error
    if saved is None:
        raise ValueError(f"The run {folder.id} has no state yet.")
    return saved
