"""`textual-inversion evaluate`: how good a learned word is, in numbers with intervals."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from ..demo.concepts import BEYOND, COMBINATIONS, CONCEPTS
from ..demo.edits import EDITS, Edit
from ..demo.judge import Judge, load_judge
from ..demo.judge_scores import JudgeScorer, JudgeShares
from ..demo.quality import Scorer as ConceptScorer
from ..evaluation.prompts import PHOTO, PROMPTS, prompt_for, text_without_word
from ..evaluation.scorer import Scorer
from ..evaluation.scores import Measurement
from ..files.atomic import check_writable, write_atomically
from ..files.formats.metadata import class_noun
from ..standalone import DiffusersBackend
from ..word.embedding import TokenEmbedding
from ..word.placeholder import DEFAULT_PLACEHOLDER, check_placeholder, composed, places_of, usable_placeholder
from .evaluation_input import Compared, folder_scorers, read_compared
from .evaluation_text import evaluation_text, missing_scores
from .model_flags import add_model_flags, open_model
from .numbers import check_range
from .terminal import say, warn
from .word_files import read_word

DESCRIPTION = (
    "Score a learned word: how like the training pictures its pictures are, and how well they still follow the rest of "
    "a prompt. Draws the pictures, and writes none of them."
)
PRESETS = {"fast": (8, 20), "paper": (64, 50)}
"""Name -> pictures a prompt, steps of DDIM."""
_AT_ONCE = 4  # pictures in one pass through the network
_MAX_SEED = 2**63 - 1

Draw = Callable[[str], list[Tensor]]
"""prompt -> its pictures [3, H, W] in 0..1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the learned word")
    parser.add_argument(
        "--pictures", nargs="+", required=True, metavar="PICTURES", help="the training pictures: files or folders"
    )
    parser.add_argument(
        "--held-out",
        nargs="+",
        default=[],
        metavar="PICTURES",
        help="pictures of the same thing that were not trained on; the word is then compared with these",
    )
    parser.add_argument(
        "--masks",
        metavar="FOLDER",
        help="a mask for each picture that is compared with, of its name, white on the thing: the rest becomes grey",
    )
    parser.add_argument("--clip", metavar="FOLDER", help="a CLIP as transformers saves it, with model.safetensors")
    parser.add_argument("--dino", metavar="FOLDER", help="a DINO or DINOv2 as transformers saves it")
    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        default="fast",
        help="fast: 8 pictures a prompt with 20 steps. paper: 64 with 50 steps of DDIM, as Gal et al. 2022 [fast]",
    )
    parser.add_argument("--num-images", type=int, metavar="N", help="pictures a prompt [the preset's]")
    parser.add_argument("--steps", type=int, metavar="N", help="of the sampler [the preset's]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of each prompt's first picture [0]")
    parser.add_argument(
        "--guidance", type=float, metavar="X", help="how closely prompts are followed [the model's own]"
    )
    parser.add_argument("--resolution", type=int, metavar="N", help="side in pixels [the model's own]")
    parser.add_argument("--placeholder", metavar="WORD", help=f"how prompts call the word [{DEFAULT_PLACEHOLDER}]")
    parser.add_argument(
        "--concept",
        choices=sorted(CONCEPTS),
        metavar="NAME",
        help="with --model demo: which look of its benchmark the word is; it is then also scored against fresh renders",
    )
    parser.add_argument("--json", metavar="FILE", help="write everything to this file, too")
    parser.add_argument("--overwrite", action="store_true", help="replace the JSON file if there is one")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_model_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    count, steps = _sampling(arguments)
    output = _output(arguments)
    is_demo = arguments.model == "demo"
    if arguments.concept is not None and not is_demo:
        raise ValueError("--concept goes with --model demo, whose judge knows these looks.")
    edits = EDITS if is_demo else tuple(Edit(g, prompt, {}, {}) for g, prompts in PROMPTS.items() for prompt in prompts)
    compared = read_compared(arguments.pictures, arguments.held_out, arguments.masks)
    noun = class_noun(read_word(arguments.file)[0].metadata)
    if arguments.placeholder is not None:
        _check_placeholder(arguments.placeholder, [PHOTO, *(edit.prompt for edit in edits), noun])
    scorers = folder_scorers(arguments)
    if not scorers and not is_demo:
        raise ValueError(
            "Nothing can score pictures of this model; name a folder with --clip (likeness and text) or --dino "
            "(likeness), as transformers saves them. Only the demo model has a judge of its own."
        )
    warn(compared.warnings)

    backend = open_model(arguments)
    word, doubts = _word(arguments, backend)
    warn(doubts)
    draw, bar = _drawer(arguments, backend, word, count, steps)
    judge = load_judge() if is_demo else None
    if arguments.clip is None and judge is None:
        edits = ()  # nothing would read their texts
    result: dict[str, Any] = {
        "word": word.placeholder,
        "class_noun": noun,
        "file": Path(arguments.file).name,
        "model": backend.description,
        "pictures_a_prompt": count,
        "steps": steps,
        "guidance": backend.guidance,
        "seed": arguments.seed,
        "references": {"held_out": compared.held_out, "pictures": compared.names, "foreground": compared.masked},
        "prompts": {
            group: [e.prompt for e in edits if e.group == group] for group in dict.fromkeys(e.group for e in edits)
        },
    }
    with bar:
        bar.total = count * (1 + len(edits))
        result |= _measure(scorers, judge, compared, draw, edits, word.placeholder, noun)
    if judge is not None and arguments.concept is not None:
        result["concept"] = _concept(judge, arguments.concept, backend, word, noun, steps)
    result["missing"] = missing_scores(result, is_demo)
    print(evaluation_text(result))  # first, so that a full disk does not lose it
    if output is not None:
        write_atomically(output, json.dumps(result, indent=2).encode(), arguments.overwrite)
    return 0


def _sampling(arguments: argparse.Namespace) -> tuple[int, int]:
    """Pictures a prompt and steps: the preset's where a flag does not name them. ValueError out of range."""
    count, steps = PRESETS[arguments.preset]
    count = count if arguments.num_images is None else arguments.num_images
    steps = steps if arguments.steps is None else arguments.steps
    check_range("--num-images", count, 1, 10_000)
    check_range("--steps", steps, 1, 1000)
    check_range("--seed", arguments.seed, 0, _MAX_SEED - count)
    if arguments.guidance is not None:
        check_range("--guidance", arguments.guidance, 0, 1000)
    return count, steps


def _output(arguments: argparse.Namespace) -> Path | None:
    if arguments.json is None:
        return None
    output = Path(arguments.json)
    check_writable(output)
    if output.exists() and not arguments.overwrite:
        raise ValueError(f"{output.name} exists already; choose another --json or add --overwrite.")
    return output


def _check_placeholder(placeholder: str, texts: Sequence[str]) -> None:
    """ValueError for one that no prompt can contain, and for one that stands in one of `texts` anyway."""
    if not placeholder or usable_placeholder(placeholder) != placeholder:
        check_placeholder(placeholder)
    for text in texts:
        if places_of(text, placeholder):
            raise ValueError(f"--placeholder {placeholder} is a word of {text!r}, which is drawn; choose another.")


def _word(arguments: argparse.Namespace, backend: DiffusersBackend) -> tuple[TokenEmbedding, list[str]]:
    """The word for the text encoders of the model, and warnings about it."""
    encoders = {info.width: key for key, info in backend.encoders.items()}
    word, warnings = read_word(arguments.file, encoder_for_width=encoders)
    # Not as the file calls it: that may be a word of a prompt, such as dog, which would then be the word in two places.
    return TokenEmbedding(word.vectors, composed(arguments.placeholder or DEFAULT_PLACEHOLDER)), warnings


def _drawer(
    arguments: argparse.Namespace, backend: DiffusersBackend, word: TokenEmbedding, count: int, steps: int
) -> tuple[Draw, Any]:
    """What draws `count` pictures of a prompt, and the bar that shows it. ValueError for a size the model has not."""
    if arguments.guidance is not None:
        backend.guidance = arguments.guidance
    resolution = arguments.resolution or backend.resolution
    if resolution % backend.multiple or not 64 <= resolution <= 4096:
        raise ValueError(f"--resolution must be a multiple of {backend.multiple} from 64 to 4096, got {resolution}.")
    bar = tqdm(disable=arguments.quiet, unit="picture", file=sys.stderr)
    words, seeds = {word.placeholder: word.vectors}, range(arguments.seed, arguments.seed + count)

    def draw(prompt: str) -> list[Tensor]:
        pictures: list[Tensor] = []
        for begin in range(0, count, _AT_ONCE):
            part = seeds[begin : begin + _AT_ONCE]
            pictures += list(backend.generate([prompt] * len(part), words, part, resolution, steps).float().cpu())
            bar.update(len(part))
        return pictures

    return draw, bar


def _measure(
    scorers: Sequence[Scorer],
    judge: Judge | None,
    compared: Compared,
    draw: Draw,
    edits: Sequence[Edit],
    word: str,
    noun: str,
) -> dict[str, Any]:
    """Scores by every scorer, and shares by the judge, ready for JSON. Keeps the pictures of one prompt at a time."""
    # A small CLIP of the demo world has its place here, as one more scorer of the demo model.
    seers = [*scorers, *([] if judge is None else [JudgeScorer(judge)])]
    same = not compared.held_out
    measurements = [Measurement(one, compared.references, compared.training, same) for one in seers]
    shares = None if judge is None else JudgeShares(judge, compared.training)
    photos = draw(prompt_for(PHOTO, word, noun))
    for measurement in measurements:
        measurement.add_photos(photos)
    for edit in edits:
        pictures = draw(prompt_for(edit.prompt, word, noun))
        for measurement in measurements:
            measurement.add_edit(edit.group, text_without_word(edit.prompt), pictures)
        if shares is not None:
            shares.add_edit(edit, pictures)
    result: dict[str, Any] = {"scores": [asdict(measurement.scores()) for measurement in measurements]}
    if shares is not None:
        result["judge"] = {group: asdict(judged) for group, judged in shares.shares().items()}
    return result


def _concept(
    judge: Judge, name: str, backend: DiffusersBackend, word: TokenEmbedding, noun: str, steps: int
) -> dict[str, Any]:
    """The exact score of benchmarks/quality.py, against fresh renders of the look that the word stands for."""
    say("Scoring against fresh renders ...")
    scorer, concept = ConceptScorer(judge, [*COMBINATIONS, *BEYOND]), CONCEPTS[name]

    def draw(prompts: Sequence[str], seed: int) -> Tensor:
        words, seeds = {word.placeholder: word.vectors}, range(1000 * seed, 1000 * seed + len(prompts))
        return backend.generate(prompts, words, seeds, steps=steps)

    score = scorer.score(concept, draw, f"{word.placeholder} {noun}".rstrip())
    ceiling = scorer.ceiling(concept)
    return {"name": name, "score": asdict(score), "ceiling": asdict(ceiling)}
