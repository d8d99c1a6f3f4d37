"""`textual-inversion merge`: one word of several, or a word changed by words of the vocabulary."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ..files.formats.metadata import description_metadata
from ..word.merging import METHODS, merge
from .model_flags import add_model_flags, open_model
from .word_files import add_output_flags, output_of, read_word, show, write_word

DESCRIPTION = (
    "Make one word of several, cut or rescale one, or add and subtract words of a model's vocabulary: "
    "king - man + woman is `merge king.safetensors --subtract man --add woman --model MODEL`."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="embedding files")
    parser.add_argument(
        "--method", choices=METHODS, default="sum", help=f"{'; '.join(f'{k}: {v}' for k, v in METHODS.items())} [sum]"
    )
    parser.add_argument(
        "--weights", nargs="+", default=[], metavar="X", help="one for each file [equal weights that add up to 1]"
    )
    parser.add_argument("--add", nargs="+", default=[], metavar="WORD", help="words of the vocabulary to add")
    parser.add_argument("--subtract", nargs="+", default=[], metavar="WORD", help="words of the vocabulary to subtract")
    parser.add_argument("--num-vectors", type=int, metavar="N", help="use only the first N vectors of each file")
    parser.add_argument(
        "--rescale", action="store_true", help="give every vector the usual length of the vocabulary's vectors"
    )
    add_output_flags(parser)
    add_model_flags(parser, required=False)


def run(arguments: argparse.Namespace) -> int:
    if arguments.num_vectors is not None and arguments.num_vectors < 1:
        raise ValueError(f"--num-vectors must be 1 or more, got {arguments.num_vectors}.")
    output = output_of(arguments)
    backend = open_model(arguments) if arguments.model else None
    encoders = None if backend is None else {info.width: key for key, info in backend.encoders.items()}
    words, warnings = [], []
    for file in arguments.files:
        word, doubts = read_word(file, encoder_for_width=encoders)
        warnings += [f"{Path(file).name}: {doubt}" for doubt in doubts]
        words.append((Path(file).stem, word))
    merged = merge(
        words,
        arguments.method,
        " ".join(arguments.weights),
        arguments.add,
        arguments.subtract,
        arguments.num_vectors,
        arguments.rescale,
        backend,
    )
    word = merged.word
    if merged.made_of:
        word = replace(word, placeholder=output.stem, metadata=description_metadata(merged_from=merged.made_of))
    return show([write_word(word, output, arguments)], [*warnings, *merged.warnings], arguments.json)
