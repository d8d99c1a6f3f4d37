"""What convert, merge and extract share: reading words from a file, and writing one with what its maker says of it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.contact_sheet import to_image
from ..data.pictures import load_picture
from ..files import read_embedding_file, save_embedding
from ..files.atomic import check_writable
from ..files.formats.contents import quoted
from ..files.formats.metadata import description_metadata, shortened
from ..files.formats.programs import PROGRAMS
from ..files.load import MOST_LISTED
from ..files.save import DTYPES
from ..files.thumbnail import carrier, thumbnail
from ..word.embedding import TokenEmbedding
from ..word.families import FAMILIES, and_list, check_family, family_of, family_title

# Those that a width tells apart; HiDream has two encoders of the same.
_FAMILIES = [name for name, family in FAMILIES.items() if len(set(family.widths.values())) == len(family.widths)]
_DESCRIPTIONS = {
    "title": "what lists show",
    "author": "who made it",
    "license": "such as CC0-1.0",
    "description": "what it shows, what it was learned from",
    "usage-hint": "a line on how to use it",
    "tags": "separated by commas",
}


def add_partner(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "partner",
        metavar="FILE2",
        nargs="?",
        help="the second file of an SDXL word by diffusers; not needed if it is FILE_2 in the same folder",
    )


def add_family_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--family",
        choices=_FAMILIES,
        help="the models that the word is for, if the file does not name its text encoder. A word is never converted "
        "to another family: its vectors mean nothing to other encoders",
    )


def add_output_flags(parser: argparse.ArgumentParser, output: str = "such as cat.safetensors") -> None:
    parser.add_argument("--output", required=True, metavar="FILE", help=output)
    parser.add_argument("--overwrite", action="store_true", help="replace the output file if there is one")
    parser.add_argument(
        "--for",
        dest="program",
        choices=sorted(PROGRAMS),
        help="write the format that this program reads [the one that most programs read]. diffusers: one file for each "
        "text encoder; a1111: also FILE.png, a picture that contains the word",
    )
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="float32", help="precision of the numbers [float32]")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    descriptions = parser.add_argument_group("what the file says of the word")
    descriptions.add_argument("--placeholder", metavar="WORD", help="how prompts call it")
    for name, text in _DESCRIPTIONS.items():
        descriptions.add_argument(f"--{name}", metavar="TEXT", help=text)
    descriptions.add_argument(
        "--negative", action=argparse.BooleanOptionalAction, help="whether the word is for negative prompts"
    )
    descriptions.add_argument("--thumbnail", metavar="PICTURE", help="shown in lists; in a .png the picture itself")


def output_of(arguments: argparse.Namespace) -> Path:
    """The file to write. ValueError if there is one already, OSError if it cannot be: before a model is opened."""
    output = Path(arguments.output)
    check_writable(output)
    if os.path.lexists(output) and not arguments.overwrite:
        raise ValueError(f"{output.name} exists already; choose another --output or add --overwrite.")
    return output


def read_words(
    file: str,
    family: str | None = None,
    encoder_for_width: Mapping[int, str] | None = None,
    partner: str | None = None,
) -> tuple[list[TokenEmbedding], list[str]]:
    """The words in a file and the warnings about them. ValueError for a word of another family or model.

    partner: see `read_embedding_file`.
    """

    content = read_embedding_file(file, encoder_for_width, partner)
    if family is not None:
        for word in content.words:
            check_family(word.embedding, family)
        encoders = {width: key for key, width in FAMILIES[family].widths.items()}
        content = read_embedding_file(file, encoders, partner)
    return [word.embedding for word in content.words], content.warnings


def read_word(
    file: str,
    family: str | None = None,
    encoder_for_width: Mapping[int, str] | None = None,
    partner: str | None = None,
) -> tuple[TokenEmbedding, list[str]]:
    """The one word in a file. ValueError where there are several."""
    words, warnings = read_words(file, family, encoder_for_width, partner)
    if len(words) > 1:
        holds = f"{len(words)} words ({quoted((word.placeholder for word in words), MOST_LISTED)})"
        raise ValueError(f"{Path(file).name} holds {holds}; take one out with: textual-inversion extract --word.")
    return words[0], warnings


def write_word(word: TokenEmbedding, output: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write `word` as the flags say; returns what was written, ready for JSON."""

    descriptions = {name.replace("-", "_"): getattr(arguments, name.replace("-", "_")) for name in _DESCRIPTIONS}
    if arguments.placeholder and word.metadata.get("modelspec.title") == word.placeholder:
        descriptions["title"] = descriptions["title"] or arguments.placeholder  # the title was not given by anybody
    picture = None
    if arguments.thumbnail:
        whole = to_image(load_picture(arguments.thumbnail))
        picture, descriptions["thumbnail"] = carrier(whole), thumbnail(whole)
    metadata = word.metadata | description_metadata(**descriptions, negative=arguments.negative)
    word, left_out = shortened(replace(word, placeholder=arguments.placeholder or word.placeholder, metadata=metadata))
    files = save_embedding(word, output, arguments.overwrite, arguments.program, arguments.dtype, picture)
    return {
        "files": [str(file) for file in files],
        "name": word.placeholder,
        "family": family_of(word),
        "vectors": {key: list(rows.shape) for key, rows in word.vectors.items()},
        "program": arguments.program,
        "left_out": left_out,
        "summary": _summary_line(word, files, arguments.program),
    }


def show(written: Sequence[dict[str, Any]], warnings: Sequence[str], as_json: bool) -> int:
    """Print what `write_word` returned, and the warnings; returns the exit code."""
    lines = [word.pop("summary") for word in written]
    left_out = dict.fromkeys(key for word in written for key in word.pop("left_out"))
    if left_out:
        warnings = [
            *warnings,
            f"What the file said under {and_list(list(left_out))} is too long for a word and left out.",
        ]
    if as_json:
        print(json.dumps({"words": list(written), "warnings": list(warnings)}))
    else:
        print("\n".join(lines))
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)
    return 0


def _summary_line(word: TokenEmbedding, files: Sequence[Path], program: str | None) -> str:
    count = word.num_vectors
    where = and_list(list(map(str, files)))
    line = f"{quoted([word.placeholder])}, {count} vector{'s' * (count > 1)} for {family_title(word)}: {where}"
    if program is None or not PROGRAMS[program].prompt:
        return line
    called = PROGRAMS[program].prompt.format(file=files[0].stem, trigger=word.placeholder)
    return f"{line}; prompts of {PROGRAMS[program].title} call it {called}"
