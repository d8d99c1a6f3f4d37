"""`textual-inversion convert`: an embedding file of any format to the one that a program reads."""

from __future__ import annotations

import argparse

from .word_files import add_family_flag, add_output_flags, add_partner, output_of, read_word, show, write_word

DESCRIPTION = "Write the word in an embedding file, of whatever format, as another program reads it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    add_partner(parser)
    add_family_flag(parser)
    add_output_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    output = output_of(arguments)
    word, warnings = read_word(arguments.file, arguments.family, partner=arguments.partner)
    return show([write_word(word, output, arguments)], warnings, arguments.json)
