"""Parsing, and what all commands share: an error that a user can cause is one sentence and exit code 2."""

from __future__ import annotations

import argparse
import importlib
import io
import re
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

from .early_interrupt import interrupt_ends_the_program

PROGRAM = "textual-inversion"
COMMANDS = {
    "train": "learn a word from pictures",
    "generate": "pictures of a prompt with a learned word",
    "evaluate": "how good a learned word is, in numbers",
    "inspect": "what an embedding file holds",
    "convert": "an embedding file for another program",
    "merge": "one word of several, or arithmetic with words",
    "extract": "words out of a file that holds several",
    "runs": "the runs on disk: list, show, export, delete",
    "pick": "the word as it was at any step of a run",
    "dial": "a learned word between its class word and its full likeness",
}
"""Each is the module of its name, with DESCRIPTION, add_arguments(parser) and run(arguments) -> exit code."""
_DESCRIPTION = """\
Learn a new word for a text-to-image model from 3 to 5 pictures, with the model frozen
(Gal et al. 2022, "An Image is Worth One Word").
"""
_EXAMPLES = """\
examples:
  textual-inversion train cat1.jpg cat2.jpg cat3.jpg --model demo --output cat.safetensors
  textual-inversion train cats/ --model ./stable-diffusion-v1-5 --initial-words cat --num-vectors 2
  textual-inversion generate "a painting of S*" --model demo --embedding cat.safetensors --output pictures
  textual-inversion evaluate cat.safetensors --model demo --pictures cats/ --json scores.json
  textual-inversion inspect cat.safetensors --json
  textual-inversion convert cat.pt --for diffusers --output cat.safetensors
  textual-inversion merge cat.safetensors dog.safetensors --weights 0.6 0.4 --output catdog.safetensors
  textual-inversion runs
  textual-inversion pick 1a2b3c4d --step 90 --output cat-90.safetensors
  textual-inversion dial cat.safetensors --to 0.5 --class-word cat --model demo --output cat-half.safetensors

exit codes: 0 done, 2 a sentence on stderr says what to change, 130 stopped with Ctrl-C (train saves what was learned,
and the same command goes on from there; a second Ctrl-C stops at once)
"""


class _Parser(argparse.ArgumentParser):
    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        # What argparse takes for a number and not for an option: its own pattern knows neither -0,6 nor -1e-3.
        self._negative_number_matcher = re.compile(r"-[.,]?\d")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help lists the options)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    parser = _Parser(
        prog=PROGRAM,
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    chosen = next((argument for argument in argv if not argument.startswith("-")), None)
    for name, summary in COMMANDS.items():
        subparser = commands.add_parser(name, help=summary)
        if name == chosen:  # only this one is imported: with torch that takes seconds
            with interrupt_ends_the_program():
                command = importlib.import_module(f".{name}", __package__)
            subparser.description = command.DESCRIPTION
            command.add_arguments(subparser)
            subparser.set_defaults(run=command.run)
    arguments = parser.parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # where a trigger is in letters that the terminal has not
    try:
        with _threads(arguments):
            return arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"{PROGRAM}: {_sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\n{PROGRAM}: stopped; {str(stop) or 'nothing was written'}.", file=sys.stderr)
        return 130


def _threads(arguments: argparse.Namespace) -> AbstractContextManager[None]:
    """As many as suit the model that the flags name."""
    if getattr(arguments, "model", None) != "demo":
        return nullcontext()
    return importlib.import_module("..demo.threads", __package__).one_thread()


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the file'}: {error.strerror}."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(str(error).split()))
