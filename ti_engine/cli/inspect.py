"""`textual-inversion inspect`: what an embedding file holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..files import read_embedding_file
from ..word.inspection import describe
from .model_flags import add_model_flags, open_model
from .terminal import printable
from .word_files import add_partner

DESCRIPTION = (
    "Show what an embedding file holds, whoever wrote it. With a model also the words of its vocabulary "
    "that are nearest to each vector."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=".safetensors, .pt, .bin, .pti, or a picture by A1111")
    add_partner(parser)
    parser.add_argument("--json", action="store_true", help="print it as one JSON object on stdout")
    add_model_flags(parser, required=False)


def run(arguments: argparse.Namespace) -> int:
    backend = open_model(arguments) if arguments.model else None
    encoders = None if backend is None else {info.width: key for key, info in backend.encoders.items()}
    content = describe(read_embedding_file(arguments.file, encoders, arguments.partner), backend)
    print(json.dumps(content) if arguments.json else _summary(content))
    return 0


def _summary(content: dict[str, Any]) -> str:
    lines = [f"{printable(content['file'])} ({content['format']})"]
    for word in content["words"]:
        name = f"{Path(content['file']).stem}, by the file's name" if word["name"] is None else word["name"]
        lines.append(f"word: {printable(name)}")
        for key, rows in word["vectors"].items():
            lines += _vector_lines(key, rows)
        lines += [f"{printable(name)}: {printable(text)}" for name, text in sorted(word["metadata"].items())]
    lines += [f"warning: {printable(warning)}" for warning in content["warnings"]]
    return "\n".join(lines)


def _vector_lines(key: str, rows: dict[str, Any]) -> list[str]:
    count, width = rows["shape"]
    usual = f"; a word's norm is {rows['vocabulary_norm']:.4f}" if "vocabulary_norm" in rows else ""
    lines = [f"{printable(key)}: {count} vector{'s' * (count > 1)} of width {width}, {rows['dtype']}{usual}"]
    for number, norm in enumerate(rows["norms"]):
        near = ", ".join(f"{printable(w)} {c:.2f}" for w, c in rows.get("nearest_words", [[]] * count)[number])
        lines.append(f"  {number + 1}: norm {norm:.4f}{'; nearest: ' + near if near else ''}")
    return [*lines, f"  sha256 {rows['sha256_f32']}"]
