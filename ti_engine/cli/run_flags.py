"""The folder of runs, and runs that are named by the beginning of their id, which several commands take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..run.folder import SavedRun
from ..run.store import RunStore

FOLDER = "textual_inversion"
_SHORTEST = 8  # digits of an id in a text


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


def short_id(run_id: str, ids: Sequence[str]) -> str:
    """The beginning of an id that tells it from all others in `ids`."""
    others = [one for one in ids if one != run_id]
    return next(
        (run_id[:n] for n in range(_SHORTEST, len(run_id)) if not any(one.startswith(run_id[:n]) for one in others)),
        run_id,
    )
