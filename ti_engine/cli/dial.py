"""`textual-inversion dial`: a learned word anywhere between its class word and its full likeness."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..files.formats.metadata import class_noun, initial_words, moved_metadata
from ..run.dial import along_trajectory, steps_of
from ..run.folder import RunFolder, SavedRun, is_run_id
from ..run.pick import pick_word
from ..word.dial import PATHS, along_direction, check_position, dial_lines
from ..word.embedding import TokenEmbedding
from .model_flags import add_model_flags, open_model
from .run_flags import add_runs_flag, store_of
from .terminal import say
from .word_files import add_output_flags, output_of, read_word, show, write_word

DESCRIPTION = (
    "Write a learned word closer to its class word: prompts are usually followed better, with less likeness. Nothing "
    "is trained. A file needs the model's words (--model); a run on disk can also go back through its own states."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "word",
        metavar="WORD",
        help="an embedding file, or a run: its folder, its id, or the beginning of it as `textual-inversion runs` "
        "lists it",
    )
    parser.add_argument(
        "--to", required=True, type=float, metavar="POSITION", help="0 is the class word, 1 what was learned"
    )
    parser.add_argument(
        "--class-word",
        default="",
        metavar="WORDS",
        help="such as cat; along the trajectory for prompts only [the initial words, where the training is known]",
    )
    paths = "; ".join(f"{name}: {text}" for name, text in PATHS.items())
    parser.add_argument("--path", choices=PATHS, help=f"{paths} [trajectory for a run, direction for a file]")
    add_runs_flag(parser)
    add_output_flags(parser)
    add_model_flags(parser, required=False)


def run(arguments: argparse.Namespace) -> int:
    check_position(arguments.to)
    output = output_of(arguments)
    saved = _run_of(arguments)
    path = arguments.path or ("direction" if saved is None else "trajectory")
    if arguments.model and saved is not None and path == "trajectory":
        raise ValueError(
            "A run goes back through its own states without --model; leave it out, or add --path direction."
        )
    backend = open_model(arguments) if arguments.model and path == "direction" else None
    encoders = None if backend is None else {info.width: key for key, info in backend.encoders.items()}
    learned, warnings = _learned(arguments.word, saved, encoders)
    class_word = arguments.class_word.strip() or initial_words(learned.metadata)
    noun = class_noun(learned.metadata)
    if path == "direction":
        dialled = along_direction(learned, class_word, arguments.to, backend, noun)
    elif saved is None:
        raise ValueError(f"--path trajectory needs a run; name the run in place of {arguments.word}.")
    else:
        dialled = along_trajectory(saved.record, steps_of(saved, learned), learned, arguments.to, class_word, noun)
    from_where = moved_metadata(learned.metadata, dialled.made_of) if dialled.made_of else learned.metadata
    written = write_word(replace(dialled.word, metadata=from_where), output, arguments)
    dialled = replace(dialled, word=replace(dialled.word, placeholder=written["name"]))
    say("\n".join(dial_lines(dialled)))
    result = {
        "path": path,
        "position": dialled.position,
        "place": dialled.place,
        "looked_at": dialled.looked_at,
        "class_word": dialled.class_word,
        "degrees": dialled.turned,
        "lengths": dialled.lengths,
        "prompts": dialled.prompts,
    }
    return show([{**written, **result}], warnings, arguments.json)


def _run_of(arguments: argparse.Namespace) -> SavedRun | None:
    """The run that WORD names, None if it names a file. ValueError where it names a run that is not there."""
    path = Path(arguments.word)
    if path.is_dir():
        folder = RunFolder(path.resolve())
        if not is_run_id(folder.id):
            raise ValueError(f"{arguments.word} is not the folder of a run, whose name has 32 digits of 0-9 and a-f.")
        return folder.saved()
    if path.suffix or path.exists():
        return None
    return store_of(arguments).find(arguments.word).saved()


def _learned(
    source: str, saved: SavedRun | None, encoders: Mapping[int, str] | None
) -> tuple[TokenEmbedding, list[str]]:
    """What was learned, and warnings about its file."""
    if saved is None:
        return read_word(source, encoder_for_width=encoders)
    if not saved.step:
        raise ValueError(f"The run {saved.folder.id} has not learned anything yet.")
    return pick_word(saved, None), []
