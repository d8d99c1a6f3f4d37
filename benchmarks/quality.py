"""How well words are learned: reconstruction and editability on the demo model, measured by its judge.

    python benchmarks/quality.py --processes 2   16 concepts x 3 seeds, about half an hour on 2 cores
    python benchmarks/quality.py --seeds 1 --concepts 4

Beside the learned word stand: the word it started from, the best that a person can say, 64 random vectors, and fresh
renders against other fresh renders (the ceiling). Writes the table in Markdown; `--json FILE` keeps every number.

Several processes of one thread each get more done than one process with several threads, and learn the same words; how
long one word takes on a whole machine is only told by a run with one process.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ti_engine import TokenEmbedding, TrainConfig, encode_training_set, train
from ti_engine.demo.concepts import BEYOND, COMBINATIONS, Concept
from ti_engine.demo.judge import load_judge
from ti_engine.demo.load import load_demo
from ti_engine.demo.quality import Draw, Score, Scorer
from ti_engine.standalone import DiffusersBackend

SAMPLING_STEPS = 15
PASS = 0.9  # share of pictures in which all three attributes have to be right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--concepts", type=int, default=8, help="of each group, 1 to 8")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    groups = {"held-out combinations": COMBINATIONS[: args.concepts], "beyond the vocabulary": BEYOND[: args.concepts]}
    work = [(group, concept, args.seeds) for group, concepts in groups.items() for concept in concepts]
    if args.processes == 1:
        parts = [score_concept(*item) for item in work]
    else:
        with multiprocessing.get_context("spawn").Pool(args.processes, torch.set_num_threads, (1,)) as pool:
            parts = pool.starmap(score_concept, work, chunksize=1)
    rows = [row for part in parts for row in part]
    print(report(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


@functools.cache
def judged_model() -> tuple[DiffusersBackend, Scorer, Tensor]:
    """The demo model, its judge, and what 64 random vectors look like; once in every process."""
    backend = load_demo()
    return backend, Scorer(load_judge(), [*COMBINATIONS, *BEYOND]), draw_random_words(backend, 64)


def score_concept(group: str, concept: Concept, seeds: int) -> list[dict]:
    """All rows of one concept: what it is compared with, and a learned word for every seed."""
    backend, scorer, random_pictures = judged_model()
    rows = [
        row(group, concept, "ceiling", scorer.ceiling(concept)),
        row(group, concept, "best caption", scorer.score(concept, drawer(backend), f"a {concept.caption}")),
        row(group, concept, "initial word", scorer.score(concept, drawer(backend), f"a {concept.word}")),
        {"group": group, "concept": concept.name, "kind": "random vectors"}
        | {"reconstruction": scorer.likeness(concept, random_pictures)},
    ]
    for seed in range(seeds):
        rows.append(learn_and_score(backend, scorer, group, concept, seed))
        print(rows[-1], flush=True)
    return rows


def drawer(backend: DiffusersBackend, embedding: TokenEmbedding | None = None) -> Draw:
    words = {} if embedding is None else {embedding.placeholder: embedding.vectors}

    def draw(prompts: Sequence[str], seed: int) -> Tensor:
        return backend.generate(prompts, words, range(1000 * seed, 1000 * seed + len(prompts)), steps=SAMPLING_STEPS)

    return draw


def draw_random_words(backend: DiffusersBackend, count: int) -> Tensor:
    """One picture "a photo of S*" for each of `count` random vectors of the vocabulary's scale."""
    generator = torch.Generator().manual_seed(77)
    pictures = []
    for number in range(count):
        vectors = {k: torch.randn(1, i.width, generator=generator) * i.rms for k, i in backend.encoders.items()}
        pictures.append(drawer(backend, TokenEmbedding(vectors))(["a photo of S*"], number))
    return torch.cat(pictures)


def learn_and_score(backend: DiffusersBackend, scorer: Scorer, group: str, concept: Concept, seed: int) -> dict:
    config = TrainConfig(seed=seed, resolution=backend.resolution, initial_words=concept.word)
    start = time.perf_counter()
    dataset = encode_training_set(backend, list(concept.training_pictures(seed)), config)
    *_, last = train(backend, dataset, config)
    seconds = time.perf_counter() - start
    word = last.record.embedding()
    score = scorer.score(concept, drawer(backend, word), "S*")
    norms = [float(v.norm(dim=1).mean() / backend.encoders[k].norm) for k, v in word.vectors.items()]
    extra = {"seed": seed, "seconds": seconds, "steps": len(last.record.losses), "norm": norms[0]}
    return {**row(group, concept, "learned word", score), "first_returned": last.record.returned[0], **extra}


def row(group: str, concept: Concept, kind: str, score: Score) -> dict:
    return {"group": group, "concept": concept.name, "kind": kind, **asdict(score)}


def report(rows: list[dict]) -> str:
    """Tables in Markdown: means by kind, and each concept beyond the vocabulary against its caption and ceiling."""
    lines: list[str] = []
    fields = ("reconstruction", "colour_distance", "attributes", "background", "editability")
    for group in dict.fromkeys(r["group"] for r in rows):
        lines += [f"**{group}**", "", f"| | {' | '.join(fields)} |", "|---|" + "---|" * len(fields)]
        for kind in ("ceiling", "learned word", "best caption", "initial word", "random vectors"):
            cells = [
                spread([r[f] for r in rows if (r["group"], r["kind"]) == (group, kind) and r.get(f) is not None])
                for f in fields
            ]
            lines.append(f"| {kind} | {' | '.join(cells)} |")
        lines.append("")
    learned = [r for r in rows if r["kind"] == "learned word"]
    combinations = [r for r in learned if r["attributes"] is not None]
    passed = sum(r["attributes"] >= PASS for r in combinations)
    lines.append(
        f"Held-out combinations learned (all attributes right in {PASS:.0%} of the pictures): "
        f"{passed} of {len(combinations)} runs."
    )
    lines += ["", "| concept | learned, of the ceiling | caption, of the ceiling | editability |", "|---|---|---|---|"]
    for name in dict.fromkeys(r["concept"] for r in learned if r["attributes"] is None):
        mine = [r for r in rows if r["concept"] == name]
        top = next(r["reconstruction"] for r in mine if r["kind"] == "ceiling")
        caption = next(r["reconstruction"] for r in mine if r["kind"] == "best caption")
        ours = [r for r in mine if r["kind"] == "learned word"]
        lines.append(
            f"| {name} | {spread([r['reconstruction'] / top for r in ours])} | {caption / top:.3f} "
            f"| {spread([r['editability'] for r in ours])} |"
        )
    lines.append("")
    for name in ("seconds", "steps", "first_returned", "norm"):
        lines.append(f"{name}: {spread([r[name] for r in learned])}")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean, and the smallest and largest where they differ."""
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
