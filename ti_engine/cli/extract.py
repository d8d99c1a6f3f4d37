"""`textual-inversion extract`: words out of a file that holds several."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from ..files.formats.contents import quoted
from ..files.load import MOST_LISTED
from ..word.embedding import TokenEmbedding
from ..word.placeholder import composed
from .word_files import add_family_flag, add_output_flags, output_of, read_words, show, write_word

DESCRIPTION = "Take one word or all out of a file that holds several: a LoRA with words, a file with * and @."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--word", metavar="NAME", help="the word, as inspect shows it")
    which.add_argument("--all", action="store_true", help="every word; --output is a folder then")
    add_family_flag(parser)
    add_output_flags(parser, "such as cat.safetensors; with --all a folder, in which each file is called as its word")


def run(arguments: argparse.Namespace) -> int:
    if arguments.all and (arguments.placeholder or arguments.title):
        raise ValueError("--placeholder and --title are for one word; name it with --word.")
    output = Path(arguments.output) if arguments.all else output_of(arguments)
    words, warnings = read_words(arguments.file, arguments.family)
    if arguments.all:
        chosen = list(zip(words, _files(words, output), strict=True))
        taken = [file.name for _, file in chosen if file.exists()]
        if taken and not arguments.overwrite:
            raise ValueError(f"{taken[0]} exists already in {output.name}; choose another --output or add --overwrite.")
    else:
        chosen = [(_named(words, arguments.word, Path(arguments.file).name), output)]
    return show([write_word(word, file, arguments) for word, file in chosen], warnings, arguments.json)


def _named(words: Sequence[TokenEmbedding], name: str, file: str) -> TokenEmbedding:
    found = [word for word in words if word.placeholder == composed(name)]
    if len(found) != 1:
        names = quoted((word.placeholder for word in words), MOST_LISTED)
        count = f"{len(found) or 'no'} word{'s' * (len(found) > 1)}"
        raise ValueError(f"{file} holds {count} called {name}; it has {names}.")
    return found[0]


def _files(words: Sequence[TokenEmbedding], folder: Path) -> list[Path]:
    """A file in `folder` for each word, called as the word as far as a file can be."""
    files: list[Path] = []
    for word in words:
        stem = re.sub(r"[^\w.-]+", "-", word.placeholder)[:100].strip("-.") or "word"
        numbered = [f"{stem}.safetensors", *(f"{stem}-{number}.safetensors" for number in range(2, len(words) + 1))]
        taken = {file.name.lower() for file in files}
        files.append(folder / next(name for name in numbered if name.lower() not in taken))
    return files
