"""The dial between the class word and the learned word: likeness and what prompts can still do, by position.

    OMP_NUM_THREADS=1 python benchmarks/dial.py run --out dial.jsonl     4 concepts x 2 seeds
    OMP_NUM_THREADS=1 python benchmarks/dial.py table dial.jsonl         in Markdown

Learns words with the preset fast on the demo model, puts them at five positions of each path, and lets the judge look
at the pictures:

- likeness: cosine of the judge's mean features of "a photo of S*" and of fresh renders, as a share of the ceiling;
- background: pictures that show the background that the prompt asks for;
- relations: pictures of "S* left of a blue circle" and "a blue circle above S*" that show both shapes, each in its
  place;
- pair: cosine of the judge's features of these pictures and of fresh renders of the same scene, as a share of the
  ceiling. It also counts colours.

Each also with the class noun behind the word ("S* heart"). The learning looks at its fixed set after every second
update, which changes no vectors: so the path through the run's states can be calibrated.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import torch
from result_runs import held_out, losses, write_rows
from result_tables import Row
from torch import Tensor
from torch.nn import functional as F

from ti_engine import TokenEmbedding, TrainConfig, encode_training_set, train
from ti_engine.demo.concepts import BEYOND, COMBINATIONS, CONCEPTS, Concept
from ti_engine.demo.corpus import sample_scenes
from ti_engine.demo.judge import judge_pictures, load_judge
from ti_engine.demo.load import load_demo
from ti_engine.demo.quality import Scorer
from ti_engine.demo.world import (
    BACKGROUNDS,
    COLOURS,
    RELATIONS,
    SHAPES,
    Objects,
    attribute_objects,
    draw_scenes,
)
from ti_engine.run.dial import along_trajectory
from ti_engine.standalone import DiffusersBackend
from ti_engine.word.dial import PATHS, along_direction

POSITIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
LEARNED = ("teal over coral heart", "circle-diamond, dotted pink", "olive dotted square", "ringed green diamond")
SCORES = ("likeness", "background", "relations", "pair")
PHOTOS, EDITS, PAIRS = 24, 12, 16  # pictures of each word


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("files", type=Path, nargs="*", help="for table")
    parser.add_argument("--concepts", nargs="*", default=LEARNED, choices=list(CONCEPTS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--steps", type=int, default=8, help="of the sampler")
    parser.add_argument("--out", type=Path, default=Path("dial.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "table":
        print(table([json.loads(line) for file in args.files for line in file.read_text("utf-8").splitlines()]))
    else:
        write_rows(args.out, runs(args))


def runs(args: argparse.Namespace) -> Iterator[tuple[Row, partial[Row]]]:
    for seed in args.seeds:
        for name in args.concepts:
            run = {"concept": name, "seed": seed, "steps": args.steps}
            yield run, partial(measure, CONCEPTS[name], seed, args.steps)


@cache
def model() -> DiffusersBackend:
    return load_demo()


@cache
def scorer() -> Scorer:
    return Scorer(load_judge(), [*COMBINATIONS, *BEYOND])


@cache
def mean_features() -> Tensor:
    """Of the judge on scenes of the world; features are compared around it."""
    generator = torch.Generator().manual_seed(4)
    scenes = torch.cat([sample_scenes(64, generator).draw(generator) for _ in range(8)])
    return judge_pictures(load_judge(), scenes).features.mean(0)


def measure(concept: Concept, seed: int, steps: int) -> Row:
    """The scores of one learned word at every position of every path, and its loss on fresh renders."""
    backend = model()
    config = TrainConfig.preset(
        "fast", seed=seed, resolution=backend.resolution, initial_words=concept.word, evaluate_every=2
    )
    dataset = encode_training_set(backend, list(concept.training_pictures(seed)), config)
    *_, last = train(backend, dataset, config)
    record = last.record
    learned = record.embedding()
    fresh = concept.pictures(torch.arange(36) % len(BACKGROUNDS), torch.Generator().manual_seed(31337))
    samples = held_out(backend, encode_training_set(backend, list(fresh), config), config, 192)
    points, scored = [], {}
    for path in PATHS:
        for position in POSITIONS:
            if path == "direction":
                dialled = along_direction(learned, concept.word, position, backend)
            else:
                dialled = along_trajectory(record, record.returned, learned, position, concept.word)
            vectors = dialled.word.vectors
            key = b"".join(rows.numpy().tobytes() for rows in vectors.values())
            if key not in scored:  # both paths end at the same vectors
                loss = float(losses(backend, vectors, samples).mean())
                scored[key] = {"loss": loss, **scores(concept, dialled.word, steps)}
            turned = {encoder: degrees for encoder, (degrees, _) in dialled.turned.items()}
            points.append({"path": path, "position": position, "degrees": turned, **scored[key]})
    return {"returned": [record.returned[0], record.returned[-1]], "points": points}


def scores(concept: Concept, word: TokenEmbedding, steps: int) -> Row:
    """The scores of SCORES with the word alone, and under "... + noun" with the class noun behind it."""
    found = {}
    for suffix, name in (("", word.placeholder), (" + noun", f"{word.placeholder} {concept.word}")):
        photos = draw(word, [f"a photo of {name}"] * PHOTOS, 11, steps)
        background = torch.arange(EDITS) % len(BACKGROUNDS)
        edits = draw(word, [f"a photo of {name} on a {BACKGROUNDS[b]} background" for b in background], 12, steps)
        seen = judge_pictures(load_judge(), edits).attributes
        found["likeness" + suffix] = scorer().likeness(concept, photos) / ceiling(concept)
        found["background" + suffix] = float((seen["background"] == background).float().mean())
        pictures = draw(word, [prompt(name, number) for number in range(PAIRS)], 13, steps)
        found["relations" + suffix] = right_pairs(concept, pictures)
        found["pair" + suffix] = pair_likeness(concept, pictures)
    return found


def draw(word: TokenEmbedding, prompts: Sequence[str], seed: int, steps: int) -> Tensor:
    words = {word.placeholder: word.vectors}
    return model().generate(prompts, words, range(1000 * seed, 1000 * seed + len(prompts)), steps=steps)


@cache
def ceiling(concept: Concept) -> float:
    return scorer().ceiling(concept).reconstruction


def other(number: int) -> tuple[int, int, int, bool]:
    """Shape, colour and relation of the other object in a pair, and whether the word stands first."""
    turn = number // len(SHAPES)
    shape, colour = (3 * number + 1 + turn) % len(SHAPES), (5 * number + 2 + turn) % len(COLOURS)
    return shape, colour, number % len(RELATIONS), number % 4 < 2


def prompt(name: str, number: int) -> str:
    shape, colour, relation, is_first = other(number)
    thing = f"{COLOURS[colour]} {SHAPES[shape]}"
    if is_first:
        return f"a photo of {name} {RELATIONS[relation]} a {thing}"
    return f"a photo of a {thing} {RELATIONS[relation]} {name}"


def right_pairs(concept: Concept, pictures: Tensor) -> float:
    """Share of the pictures that show the relation, the other shape, and one of the concept's shapes in its place."""
    seen = judge_pictures(load_judge(), pictures).attributes
    own = {concept.shape, concept.shape if concept.other_shape is None else concept.other_shape}
    right = 0
    for number in range(len(pictures)):
        shape, _, relation, is_first = other(number)
        first, second = int(seen["shape"][number]), int(seen["second_shape"][number])
        mine, others = (first, second) if is_first else (second, first)
        right += int(seen["layout"][number]) == relation + 1 and mine in own and others == shape
    return right / len(pictures)


def pair_likeness(concept: Concept, pictures: Tensor) -> float:
    """Mean cosine of each picture's features and of those of renders of its scene, as a share of other renders'."""
    wanted, again = pair_features(concept)
    features = judge_pictures(load_judge(), pictures).features - mean_features()
    found, best = (F.cosine_similarity(one, wanted, dim=1).mean() for one in (features, again))
    return float(found / best)


@cache
def pair_features(concept: Concept) -> tuple[Tensor, Tensor]:
    """Of renders of all pairs, the mean over backgrounds; and of one other render of each."""
    generator = torch.Generator().manual_seed(17)
    drawn = [pair_renders(concept, torch.full((PAIRS,), b), generator) for b in range(len(BACKGROUNDS))]
    again = pair_renders(concept, torch.arange(PAIRS) % len(BACKGROUNDS), generator)
    judge, mean = load_judge(), mean_features()
    return torch.stack([judge_pictures(judge, part).features for part in drawn]).mean(0) - mean, judge_pictures(
        judge, again
    ).features - mean


def pair_renders(concept: Concept, background: Tensor, generator: torch.Generator) -> Tensor:
    facts = [other(number) for number in range(PAIRS)]
    shape, colour, relation = (torch.tensor([fact[n] for fact in facts]) for n in range(3))
    is_first = torch.tensor([fact[3] for fact in facts])
    things = attribute_objects(shape, colour, torch.zeros_like(shape))
    own = objects_of(concept, PAIRS)
    return draw_scenes(
        own.where(is_first, things), background, generator, second=things.where(is_first, own), relation=relation
    )


def objects_of(concept: Concept, count: int) -> Objects:
    rgb = torch.tensor(concept.rgb).expand(count, 3)
    lower = rgb if concept.lower_rgb is None else torch.tensor(concept.lower_rgb).expand(count, 3)
    other_shape = concept.shape if concept.other_shape is None else concept.other_shape
    shape, texture, blended = (torch.full((count,), value) for value in (concept.shape, concept.texture, other_shape))
    return Objects(shape, rgb, texture, blended, torch.full((count,), concept.blend), lower)


def table(rows: Sequence[Row]) -> str:
    """Means over the runs by path and position, with the smallest and largest; and the scores of each run."""
    points = [{**point, "run": row["run"]} for row in rows for point in row["points"]]
    names = [*SCORES, *(f"{name} + noun" for name in SCORES)]
    lines = [
        f"| path | position | share of the loss's fall | {' | '.join(names)} |",
        "|---|---|---|" + "---|" * len(names),
    ]
    for path in PATHS:
        for position in POSITIONS:
            mine = [p for p in points if (p["path"], p["position"]) == (path, position)]
            falls = [fall(point, points) for point in mine]
            cells = [spread(falls), *(spread([point[name] for point in mine]) for name in names)]
            lines.append(f"| {path} | {position:g} | {' | '.join(cells)} |")
    lines += [
        "",
        "| concept | seed | path | likeness | relations | pair | relations + noun |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for path in PATHS:
            mine = [point for point in row["points"] if point["path"] == path]
            cells = [
                " ".join(f"{point[name]:.2f}" for point in mine)
                for name in ("likeness", "relations", "pair", "relations + noun")
            ]
            lines.append(f"| {row['run']['concept']} | {row['run']['seed']} | {path} | {' | '.join(cells)} |")
    return "\n".join(lines)


def fall(point: Mapping[str, float], points: Sequence[Row]) -> float:
    """The share of the held-out loss's fall that is reached at a point."""
    mine = [p for p in points if p["run"] == point["run"] and p["path"] == point["path"]]
    start, end = (next(p["loss"] for p in mine if p["position"] == position) for position in (0.0, 1.0))
    return (start - point["loss"]) / (start - end)


def spread(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    main()
