"""The file that `textual-inversion train` writes: which one it may replace, and what happens where it cannot be."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ..files import load_embedding, save_embedding
from ..files.atomic import check_writable
from ..run.kept_run import KeptRun
from ..word.embedding import TokenEmbedding
from .word_files import output_of

UNFINISHED = "textual_inversion_unfinished"
"""Key in the metadata of a word whose run can go on, with the run's id. Only its training writes it."""


def training_output(arguments: argparse.Namespace) -> tuple[Path, str | None]:
    """The file to write; and if there is one that an unfinished training has written, the id of its run.

    Raises ValueError for every other file that is there already, unless it may be overwritten, and OSError as
    `check_writable`.
    """
    output = Path(arguments.output)
    if output.suffix.lower() != ".safetensors":
        raise ValueError(f"--output {output.name} must end in .safetensors.")
    unfinished = None if arguments.overwrite else _unfinished_run_in(output)
    if unfinished is None:
        return output_of(arguments), None
    check_writable(output)
    return output, unfinished


def may_replace(output: Path, unfinished: str | None, run: KeptRun) -> bool:
    """Whether the file is of an unfinished run that goes on now: then nothing in it is lost.

    unfinished: of `training_output`. Raises ValueError where the file is of another run.
    """
    if unfinished is None:
        return False
    if unfinished != run.id or run.saved is None:
        raise ValueError(
            f"{output.name} exists already, and is not of the run that goes on now; choose another --output or add "
            "--overwrite."
        )
    return True


def save_word(embedding: TokenEmbedding, output: Path, overwrite: bool) -> Path:
    """Writes the file, and where the disk refuses saves it elsewhere rather than losing it; returns where it is."""
    try:
        save_embedding(embedding, output, overwrite)
        return output
    except (OSError, ValueError) as error:
        rescue = Path(tempfile.mkdtemp(prefix="textual-inversion-")) / "word.safetensors"
        save_embedding(embedding, rescue)
        raise OSError(f"{error} What was learned is in {rescue} instead.") from error


def _unfinished_run_in(file: Path) -> str | None:
    try:
        return load_embedding(file).metadata.get(UNFINISHED) if file.is_file() else None
    except (ValueError, OSError):
        return None
