"""`textual-inversion generate`: a prompt with the learned word to pictures."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from ..data.contact_sheet import png_bytes
from ..files import load_embedding
from ..files.atomic import check_writable, write_atomically
from ..word.placeholder import split_at_placeholder
from .model_flags import add_model_flags, open_model

DESCRIPTION = "Draw a prompt with a learned word."

_AT_ONCE = 4  # pictures in one pass through the network
_MAX_SEED = 2**63 - 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help='such as "a photo of S*"')
    parser.add_argument("--embedding", required=True, metavar="FILE", help="the learned word")
    parser.add_argument("--placeholder", metavar="WORD", help="how the prompt calls the word [as the file says]")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the pictures, SEED.png each")
    parser.add_argument("--overwrite", action="store_true", help="replace pictures that are there already")
    parser.add_argument("--num-images", type=int, default=1, metavar="N", help="[1]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first picture; then one more each [0]")
    parser.add_argument("--steps", type=int, default=30, metavar="N", help="of the sampler [30]")
    parser.add_argument(
        "--guidance", type=float, metavar="X", help="how closely the prompt is followed [the model's own]"
    )
    parser.add_argument("--resolution", type=int, metavar="N", help="side in pixels [the model's own]")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    add_model_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    _check_range("--num-images", arguments.num_images, 1, 10_000)
    _check_range("--seed", arguments.seed, 0, _MAX_SEED - arguments.num_images)
    _check_range("--steps", arguments.steps, 1, 1000)
    if arguments.guidance is not None:
        _check_range("--guidance", arguments.guidance, 0, 1000)
    seeds = list(range(arguments.seed, arguments.seed + arguments.num_images))
    folder = Path(arguments.output)
    files = [folder / f"{seed}.png" for seed in seeds]
    taken = [file.name for file in files if file.exists()]
    if taken and not arguments.overwrite:
        raise ValueError(f"{taken[0]} exists already in {folder.name}; choose another --output or add --overwrite.")

    check_writable(files[0])
    backend = open_model(arguments)
    if arguments.guidance is not None:
        backend.guidance = arguments.guidance
    resolution = arguments.resolution or backend.resolution
    if resolution % backend.multiple or not 64 <= resolution <= 4096:
        raise ValueError(f"--resolution must be a multiple of {backend.multiple} from 64 to 4096, got {resolution}.")
    embedding = load_embedding(arguments.embedding, {info.width: key for key, info in backend.encoders.items()})
    embedding = replace(embedding, placeholder=arguments.placeholder or embedding.placeholder)
    if len(split_at_placeholder(arguments.prompt, embedding.placeholder)) == 1:
        raise ValueError(
            f"The prompt does not contain {embedding.placeholder}, so the word would not be used; "
            "write it in the prompt, or say with --placeholder how the prompt calls it."
        )
    for begin in range(0, len(seeds), _AT_ONCE):
        part = seeds[begin : begin + _AT_ONCE]
        pictures = backend.generate([arguments.prompt] * len(part), embedding, part, resolution, arguments.steps)
        for picture, file in zip(pictures, files[begin:], strict=False):
            write_atomically(file, png_bytes(picture), arguments.overwrite)
    if arguments.json:
        print(json.dumps({"files": [str(file) for file in files], "prompt": arguments.prompt, "seeds": seeds}))
    else:
        print("\n".join(map(str, files)))
    return 0


def _check_range(flag: str, value: float, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{flag} must be from {low} to {high}, got {value}.")
