"""`textual-inversion train`: pictures to an embedding file."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import tempfile
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..data.picture_checks import picture_warnings
from ..data.picture_files import read_pictures
from ..data.training_set import TrainingSet
from ..files import load_embedding, save_embedding, training_metadata
from ..memory.out_of_memory import is_out_of_memory, out_of_memory_advice
from ..training.advice import result_warnings, setting_warnings
from ..training.backend import Backend
from ..training.config import PRESETS, TrainConfig, setting_limits
from ..training.loop import train
from ..training.pictures_to_latents import encode_training_set
from ..training.record import TrainRecord
from ..training.result import describe_states
from ..training.start_vectors import check_one_start, start_sentence
from ..training.state import start_run
from ..word.embedding import TokenEmbedding
from .captions import captions_for
from .model_flags import add_model_flags, open_model
from .word_files import output_of

DESCRIPTION = "Learn a word from pictures and write it to a file."


_NOT_HERE = ("preview_every",)  # settings for callers that show pictures while they train


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
        "--init-from", metavar="FILE", help="start from the vectors of this embedding file, in place of initial words"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_model_flags(parser)
    settings = parser.add_argument_group("settings", "defaults in brackets; a preset changes several at once")
    settings.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        default="default",
        help="paper: 5,000 updates of 8 samples at a constant rate, as Gal et al. 2022 trained [default]",
    )
    for name in _setting_names():
        _add_setting(settings, name)


def run(arguments: argparse.Namespace) -> int:
    given = {name: getattr(arguments, name) for name in _setting_names() if hasattr(arguments, name)}
    config = TrainConfig.preset(arguments.preset, **given)  # checked before anything slow happens
    if arguments.init_from:
        check_one_start(config)
    output = output_of(arguments)
    if output.suffix.lower() != ".safetensors":
        raise ValueError(f"--output {output.name} must end in .safetensors.")

    in_use = [file for file in (arguments.captions, arguments.init_from, output) if file is not None]
    pictures = read_pictures(arguments.pictures, in_use)
    for warning in pictures.warnings:
        _say(f"warning: {warning}")
    captions = captions_for(pictures, arguments.captions, config)
    config = replace(config, templates=captions.templates)
    backend = open_model(arguments)
    config = replace(config, resolution=config.resolution or backend.resolution)
    start, started_from = None, None
    if arguments.init_from:
        start = load_embedding(arguments.init_from, {info.width: key for key, info in backend.encoders.items()})
        source = Path(arguments.init_from)
        started_from = {"file": source.name, "sha256": hashlib.sha256(source.read_bytes()).hexdigest()}
        if "num_vectors" not in given:
            config = replace(config, num_vectors=start.num_vectors)
    _say(f"{backend.description}; {len(pictures.files)} pictures at {config.resolution} px")
    for line in captions.describe(pictures.names):
        _say(line)
    _say(start_sentence(backend, config, start))
    warnings = setting_warnings(backend, config, len(pictures.files), start) + captions.warnings
    for warning in warnings + picture_warnings(pictures.pictures, pictures.names, config.resolution):
        _say(f"warning: {warning}")
    dataset = encode_training_set(backend, pictures.pictures, config, captions.own)
    result = learn(backend, dataset, config, start, arguments.quiet)
    if result.record is not None and result.record.losses:
        for warning in result_warnings(backend, config, result.record):
            _say(f"warning: {warning}")
    model = backend.name, backend.weights_hash
    return _finish(result, *model, config, len(pictures.files), started_from, output, arguments)


@dataclass(frozen=True)
class Result:
    """record: None if not even step 0 was reached. interrupted: by Ctrl-C."""

    record: TrainRecord | None
    interrupted: bool
    seconds: float


def learn(
    backend: Backend,
    dataset: TrainingSet,
    config: TrainConfig,
    start: TokenEmbedding | None = None,
    quiet: bool = False,
) -> Result:
    """Train with a progress bar on stderr. Ctrl-C ends it and keeps what was learned."""

    record, began = None, time.monotonic()
    bar = tqdm(total=config.steps, disable=quiet, unit="step", file=sys.stderr)
    try:
        with bar:
            for step in train(backend, dataset, config, start_run(backend, config, start)):
                record = step.record
                if not step.index:
                    for warning in record.warnings:
                        bar.write(f"warning: {warning}", file=sys.stderr)
                bar.update(step.index - bar.n)
                if math.isfinite(step.loss):
                    bar.set_postfix(loss=f"{step.loss:.4f}", refresh=False)
    except KeyboardInterrupt:
        return Result(record, True, time.monotonic() - began)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        advice = out_of_memory_advice(config.batch_size, config.resolution, config.gradient_checkpointing)
        raise ValueError(f"The memory of {backend.device} does not hold a step of training. {advice}") from error
    return Result(record, False, time.monotonic() - began)


def _finish(
    result: Result,
    model_name: str,
    model_hash: str | None,
    config: TrainConfig,
    num_pictures: int,
    started_from: dict[str, str] | None,
    output: Path,
    arguments: argparse.Namespace,
) -> int:

    record = result.record
    steps = 0 if record is None else len(record.trajectory) - 1
    if record is None or not steps:
        if result.interrupted:
            raise KeyboardInterrupt
        raise ValueError((record and record.stopped) or "Nothing was learned.")
    if record.stopped:
        _say(record.stopped)
    metadata = training_metadata(config, record, model_name, model_hash, num_pictures, started_from=started_from)
    file = _save(replace(record.embedding(), metadata=metadata), output, arguments.overwrite)
    if result.interrupted:
        _say(f"Stopped after {steps} of {config.steps} steps; what was learned is saved.")
    summary = {
        "file": str(file),
        "steps": steps,
        "returned_steps": [record.returned[0], record.returned[-1]],
        "evaluation_loss": {"before": record.evaluations.get(0), "after": record.result_loss},
        "seconds": round(result.seconds, 2),
        "interrupted": result.interrupted,
        "stopped": record.stopped,
        "settings": config.to_dict(),
        "started_from": started_from,
        "model": {"name": model_name, "sha256": model_hash},
    }
    if arguments.json:
        print(json.dumps(summary))
    else:
        print(
            f"{config.placeholder} learned in {steps} steps, {result.seconds:.0f} s "
            f"({describe_states(record.returned)}): {file}"
        )
    return 130 if result.interrupted else 0


def _save(embedding: TokenEmbedding, output: Path, overwrite: bool) -> Path:
    """Writes the file, and where the disk refuses saves it elsewhere rather than losing it; returns where it is."""

    try:
        save_embedding(embedding, output, overwrite)
        return output
    except (OSError, ValueError) as error:
        rescue = Path(tempfile.mkdtemp(prefix="textual-inversion-")) / "word.safetensors"
        save_embedding(embedding, rescue)
        raise OSError(f"{error} What was learned is in {rescue} instead.") from error


def _setting_names() -> list[str]:
    return [setting.name for setting in fields(TrainConfig) if setting.name not in _NOT_HERE]


def _add_setting(group: Any, name: str) -> None:
    limits, default = setting_limits(name), getattr(TrainConfig, name)
    options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
    text = limits["help"].replace("%", "%%")
    if isinstance(default, bool):
        options["action"] = argparse.BooleanOptionalAction
    elif isinstance(default, tuple):
        options |= {"action": "append", "metavar": "TEXT"}
        text += " Once for each"
    elif limits["choices"]:
        options["choices"] = limits["choices"]
    else:
        options |= {"type": type(default), "metavar": {int: "N", float: "X"}.get(type(default), "TEXT")}
    default_text = ("on" if default else "off") if isinstance(default, bool) else default
    options["help"] = f"{text} [{default_text}]" if default_text not in ("", ()) else text
    group.add_argument("--" + name.replace("_", "-"), **options)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)
