"""`textual-inversion generate`: a prompt with the learned word to pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..data.contact_sheet import png_bytes
from ..files import load_embedding
from ..files.atomic import check_writable, write_atomically
from ..standalone import DiffusersBackend
from ..training.backend import Words
from ..word.placeholder import composed, other_names, split_at_placeholders, where_else
from .model_flags import add_model_flags, open_model
from .numbers import check_range

DESCRIPTION = "Draw a prompt with one or several learned words."

_AT_ONCE = 4  # pictures in one pass through the network
_MAX_SEED = 2**63 - 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", metavar="PROMPT", help='such as "a photo of S*"')
    parser.add_argument(
        "--embedding", action="append", required=True, metavar="FILE", help="a learned word; once for each of several"
    )
    parser.add_argument(
        "--placeholder",
        action="append",
        metavar="WORD",
        help="placeholder of the word in the prompts, once for each --embedding [the one that the file names]",
    )
    parser.add_argument(
        "--negative",
        default="",
        metavar="PROMPT",
        help="what the pictures should not show; it may contain learned words",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the pictures, each called SEED.png")
    parser.add_argument("--overwrite", action="store_true", help="replace pictures that are there already")
    parser.add_argument("--num-images", type=int, default=1, metavar="N", help="[1]")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the first picture; each further one adds 1 [0]"
    )
    parser.add_argument("--steps", type=int, default=30, metavar="N", help="of the sampler [30]")
    parser.add_argument(
        "--guidance", type=float, metavar="X", help="how closely the prompt is followed [the model's own]"
    )
    parser.add_argument("--resolution", type=int, metavar="N", help="side in pixels [the model's own]")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout")
    add_model_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    check_range("--num-images", arguments.num_images, 1, 10_000)
    check_range("--seed", arguments.seed, 0, _MAX_SEED - arguments.num_images)
    check_range("--steps", arguments.steps, 1, 1000)
    if arguments.guidance is not None:
        check_range("--guidance", arguments.guidance, 0, 1000)
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
    if arguments.negative and backend.guidance == 1:
        raise ValueError("With --guidance 1 a negative prompt does nothing; raise the guidance, or leave it out.")
    words = _words(arguments, backend)
    _check_prompts(arguments, words)
    for begin in range(0, len(seeds), _AT_ONCE):
        part = seeds[begin : begin + _AT_ONCE]
        prompts = [arguments.prompt] * len(part)
        pictures = backend.generate(prompts, words, part, resolution, arguments.steps, arguments.negative)
        for picture, file in zip(pictures, files[begin:], strict=False):
            write_atomically(file, png_bytes(picture), arguments.overwrite)
    if arguments.json:
        prompts = {"prompt": arguments.prompt, "negative": arguments.negative, "words": list(words)}
        print(json.dumps({"files": [str(file) for file in files], **prompts, "seeds": seeds}))
    else:
        print("\n".join(map(str, files)))
    return 0


def _words(arguments: argparse.Namespace, backend: DiffusersBackend) -> Words:
    """The word in each file, under the name that the prompts call it. ValueError where two have the same."""
    encoders = {info.width: key for key, info in backend.encoders.items()}
    files, names = arguments.embedding, arguments.placeholder or [""] * len(arguments.embedding)
    if len(names) != len(files):
        raise ValueError(f"There are {len(files)} --embedding and {len(names)} --placeholder; give one for each.")
    words: dict[str, Mapping[str, Tensor]] = {}
    for file, name in zip(files, names, strict=True):
        embedding = load_embedding(file, encoders)
        placeholder = composed(name) or embedding.placeholder
        if placeholder in words:
            raise ValueError(
                f"Two of the embeddings are called {placeholder}; say with --placeholder, once for each, how the "
                "prompts call them."
            )
        words[placeholder] = embedding.vectors
    return words


def _check_prompts(arguments: argparse.Namespace, words: Words) -> None:
    """ValueError for a word that neither prompt contains, and for a name that would be drawn as text."""
    both = f"{arguments.prompt}\n{arguments.negative}"
    found = {part for part, is_word in split_at_placeholders(both, words) if is_word}
    for placeholder in words:
        if placeholder not in found:
            raise ValueError(
                f"The prompt does not contain {placeholder}, so the word would not be used; write it in the prompt, or "
                f"say with --placeholder how the prompt calls it.{where_else(both, placeholder)}"
            )
    if unknown := other_names(both, words):
        raise ValueError(
            f"The prompt holds {', '.join(unknown)}, which no --embedding is called and which would be drawn as text; "
            "take it out, or call a word so with --placeholder."
        )
