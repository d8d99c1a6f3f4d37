"""`textual-inversion pick`: the word as it was at any step of a run, or the mean of several."""

from __future__ import annotations

import argparse
import re

from ..run.pick import pick_word, steps_between
from ..training.result import describe_states
from .run_flags import add_runs_flag, store_of
from .terminal import say
from .word_files import add_output_flags, output_of, show, write_word

DESCRIPTION = (
    "Write the word as it was after any step of a run on disk, or the mean of the vectors after several steps. Nothing "
    "is trained, and no model is opened."
)
_WINDOW = re.compile(r"(-?\d+):(-?\d+)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_id", metavar="RUN", help="id of a run, or its beginning, as `textual-inversion runs` lists it"
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--step", type=int, metavar="N", help="after this step; 0 is before training, -1 the last step")
    which.add_argument(
        "--average", metavar="A:B", help="the mean after the steps A to B, both included; -50:-1 are the last 50"
    )
    add_runs_flag(parser)
    add_output_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    first, last = (arguments.step, arguments.step) if arguments.step is not None else _window(arguments.average)
    output = output_of(arguments)
    saved = store_of(arguments).find(arguments.run_id).saved()
    steps = steps_between(saved, first, last)
    written = write_word(pick_word(saved, steps), output, arguments)
    say(f"This is {describe_states(steps)} of the run {saved.folder.id}.")
    return show([{**written, "run": saved.folder.id, "steps": [steps[0], steps[-1]]}], [], arguments.json)


def _window(text: str) -> tuple[int, int]:
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise ValueError(f"--average is {text!r}; give two steps with a colon between them, such as 100:150.")
    return int(found[1]), int(found[2])
