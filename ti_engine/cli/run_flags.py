"""The folder of runs, which several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..run.store import RunStore

FOLDER = "textual_inversion"


def add_runs_flag(parser: argparse.ArgumentParser, default: str = FOLDER) -> None:
    parser.add_argument("--runs", default=default, metavar="FOLDER", help=f"where runs are kept [{FOLDER}]")


def store_of(arguments: argparse.Namespace) -> RunStore:
    return RunStore(Path(arguments.runs))
