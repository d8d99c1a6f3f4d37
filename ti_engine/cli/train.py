"""`textual-inversion train`: pictures to an embedding file."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from ..data.caption_plan import CaptionPlan
from ..data.picture_checks import picture_warnings
from ..data.picture_files import PictureFiles, read_pictures
from ..files import training_metadata
from ..run.about import describe_run
from ..run.kept_run import KeptRun
from ..run.key import run_key
from ..standalone import DiffusersBackend
from ..training.advice import result_warnings, setting_warnings
from ..training.config import TrainConfig
from ..training.pictures_to_latents import encode_training_set
from ..training.result import describe_states
from ..training.start_vectors import check_one_start, start_sentence
from ..word.embedding import TokenEmbedding
from .captions import captions_for
from .kept import Outcome, goes_on, make_room, train_kept
from .model_flags import add_model_flags, open_model
from .result_file import UNFINISHED, may_replace, save_word, training_output
from .run_flags import add_runs_flag, store_of
from .setting_flags import add_setting_flags, given_settings
from .start_from import read_start
from .terminal import say, say_changes, warn

DESCRIPTION = (
    "Learn a word from pictures and write it to a file. The run is kept on disk: a finished one is not trained again, "
    "and one that was stopped goes on with the same command."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", metavar="PICTURES", help="3 to 5 pictures of one thing, or folders")
    parser.add_argument(
        "--output", default="word.safetensors", metavar="FILE", help="where the word goes [word.safetensors]"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the output file if there is one")
    parser.add_argument(
        "--captions",
        metavar="FILE",
        help="text file with captions, a line each: in the pictures' order, or each beginning with its picture's name "
        "(cat.png: a photo of S*); see --caption-lines. An empty line: none of its own. Without it a .txt or .caption "
        "of the same name beside a picture is its caption",
    )
    parser.add_argument(
        "--init-from",
        metavar="FILE_OR_RUN",
        help="start from the vectors of this embedding file, or from what this run on disk returned (the beginning of "
        "its id, as `textual-inversion runs` lists it), in place of initial words",
    )
    add_runs_flag(parser)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_model_flags(parser)
    add_setting_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    given = given_settings(arguments)
    config = TrainConfig.preset(arguments.preset, **given)  # checked before anything slow happens
    if arguments.init_from:
        check_one_start(config)
    output, unfinished = training_output(arguments)
    store = store_of(arguments)

    used = (arguments.captions, arguments.init_from, output, arguments.runs)
    pictures = read_pictures(arguments.pictures, [file for file in used if file is not None])
    warn(pictures.warnings)
    captions = captions_for(pictures, arguments.captions, config)
    config = replace(config, templates=captions.templates)
    backend = open_model(arguments)
    config = replace(config, resolution=config.resolution or backend.resolution)
    start, started_from = None, None
    if arguments.init_from:
        encoders = {info.width: key for key, info in backend.encoders.items()}
        start, started_from = read_start(arguments.init_from, store, encoders)
        if "num_vectors" not in given:
            config = replace(config, num_vectors=start.num_vectors)
    _announce(backend, config, pictures, captions, start)

    key = run_key(backend.identity(), pictures.pictures, captions.own, config, start)
    about = describe_run(config, backend.name, captions.own, len(pictures.files), start)
    about |= {"picture_names": pictures.names, "started_from": started_from}
    with store.open(key, about, config.if_exists == "retrain", say_changes()) as kept:
        overwrite = may_replace(output, unfinished, kept) or arguments.overwrite
        warn(kept.warnings + [kept.problem] * bool(kept.problem))
        if backend.weights_hash is not None:
            kept.notes["sha256"] = backend.weights_hash
        outcome = train_kept(
            kept,
            backend,
            lambda: encode_training_set(backend, pictures.pictures, config, captions.own),
            config,
            start,
            arguments.quiet,
        )
    record = outcome.record
    if not record.losses:
        if outcome.interrupted:
            raise KeyboardInterrupt
        raise ValueError(record.stopped or "Nothing was learned.")
    warn(result_warnings(backend, config, record))
    metadata = training_metadata(
        config,
        record,
        backend.name,
        backend.weights_hash,
        len(pictures.files),
        started_from=started_from,
        run=kept.id,
    )
    if outcome.unfinished:
        metadata[UNFINISHED] = kept.id
    file = save_word(replace(record.embedding(), metadata=metadata), output, overwrite)
    if not outcome.reused:
        make_room(store, kept, config)
    _report(outcome, kept, file, backend, config, started_from, arguments.json)
    return 130 if outcome.interrupted else 0


def _announce(
    backend: DiffusersBackend,
    config: TrainConfig,
    pictures: PictureFiles,
    captions: CaptionPlan,
    start: TokenEmbedding | None,
) -> None:
    """Says what will be trained, with warnings about it. Raises ValueError for settings that do not fit the model."""
    say(f"{backend.description}; {len(pictures.files)} pictures at {config.resolution} px")
    for line in captions.describe(pictures.names):
        say(line)
    say(start_sentence(backend, config, start))
    if config.class_noun:
        say(f"Write {config.in_prompt()} in prompts: the word is learned with the noun behind it.")
    warn(setting_warnings(backend, config, len(pictures.files), start) + captions.warnings)
    warn(picture_warnings(pictures.pictures, pictures.names, config.resolution))


def _report(
    outcome: Outcome,
    kept: KeptRun,
    file: Path,
    backend: DiffusersBackend,
    config: TrainConfig,
    started_from: dict[str, str] | None,
    as_json: bool,
) -> None:
    record, steps = outcome.record, len(outcome.record.losses)
    if outcome.interrupted:
        say(f"Stopped at step {steps} of {config.steps}.")
    elif record.stopped:
        say(record.stopped)
    if outcome.unfinished:
        say(f"What was learned is saved, {'but the run cannot go on' if kept.problem else f'and {goes_on(config)}'}.")
    is_on_disk = kept.folder.state_file.is_file()
    if is_on_disk:
        say(f"The run is in {kept.folder.path}.")
    warn([kept.problem] * bool(kept.problem))
    summary = {
        "file": str(file),
        "steps": steps,
        "returned_steps": [record.returned[0], record.returned[-1]],
        "evaluation_loss": {"before": record.evaluations.get(0), "after": record.result_loss},
        "seconds": round(outcome.seconds, 2),
        "interrupted": outcome.interrupted,
        "stopped": record.stopped,
        "run": {"id": kept.id, "folder": str(kept.folder.path)} if is_on_disk else None,
        "resumed_from": outcome.resumed_from,
        "reused": outcome.reused,
        "settings": config.to_dict(),
        "started_from": started_from,
        "model": {"name": backend.name, "sha256": backend.weights_hash},
    }
    if as_json:
        print(json.dumps(summary))
    else:
        print(
            f"{config.placeholder} learned in {steps} steps, {outcome.seconds:.0f} s "
            f"({describe_states(record.returned)}): {file}"
        )
