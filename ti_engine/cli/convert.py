"""`textual-inversion convert`: an embedding file of any format to the one that a program reads."""

from __future__ import annotations

import argparse
from typing import Any

from .word_files import add_family_flag, add_output_flags, add_partner, output_of, read_word, show, write_word


def add_parser(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "convert",
        help="an embedding file for another program",
        description="Write the word in an embedding file, of whatever format, as another program reads it.",
    )
    parser.add_argument("file", metavar="FILE")
    add_partner(parser)
    add_family_flag(parser)
    add_output_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    output = output_of(arguments)
    word, warnings = read_word(arguments.file, arguments.family, partner=arguments.partner)
    return show([write_word(word, output, arguments)], warnings, arguments.json)
