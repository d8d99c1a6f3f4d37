"""How many samples a word needs: recipes compared on the same concepts, pictures and noise of the demo model.

    OMP_NUM_THREADS=1 python benchmarks/convergence.py run --out rows.jsonl         8 concepts x 3 seeds, a recipe each
    OMP_NUM_THREADS=1 python benchmarks/convergence.py run --recipes "fast, 40 x 4"   some of them
    python benchmarks/convergence.py table rows.jsonl                               in Markdown

The share learned of a word is (L of the class word - L of the word) / (L of the class word - floor). L is the loss on
192 draws of 36 fresh renders, none of them a picture that the run learned from. The floor of a concept is the mean of
the best three of its words, of all recipes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from result_runs import held_out, losses, write_rows
from result_tables import Row

from ti_engine import TrainConfig, encode_training_set, train
from ti_engine.demo.concepts import BEYOND, CONCEPTS
from ti_engine.demo.load import load_demo
from ti_engine.standalone import DiffusersBackend
from ti_engine.training.config import PRESETS

FAST = PRESETS["fast"] | dict(early_stop=False)
RECIPES: dict[str, dict[str, Any]] = {
    "default, 150 x 8": dict(early_stop=False),
    "default, 20 x 8": dict(early_stop=False, steps=20),
    "fast, 20 x 4": FAST | dict(steps=20, initial_words="object"),
    "fast, 40 x 4": FAST | dict(initial_words="object"),
    "fast, 40 x 4, class word": FAST,
    "fast but norm free, 40 x 4": FAST | dict(initial_words="object", norm="free"),
}
REACHED = 0.95
REFERENCE = "fast, 40 x 4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("files", type=Path, nargs="*", help="for table")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--concepts", nargs="*", default=[concept.name for concept in BEYOND], choices=list(CONCEPTS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--draws", type=int, default=192)
    parser.add_argument("--out", type=Path, default=Path("convergence.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "table":
        print(table([json.loads(line) for file in args.files for line in file.read_text("utf-8").splitlines()]))
    else:
        write_rows(args.out, runs(args))


def runs(args: argparse.Namespace) -> Iterator[tuple[Row, Any]]:
    backend = load_demo()
    for recipe in args.recipes:
        for seed in args.seeds:
            for name in args.concepts:
                yield (
                    {"recipe": recipe, "concept": name, "seed": seed},
                    partial(measure, backend, RECIPES[recipe], name, seed, args.draws),
                )


def measure(backend: DiffusersBackend, recipe: Mapping[str, Any], name: str, seed: int, draws: int) -> Row:
    """Seconds of training, samples spent, and the held-out loss of the class word and of what the run returned."""
    concept = CONCEPTS[name]
    settings = {"initial_words": concept.word, **recipe, "evaluate_every": 0}
    config = TrainConfig(**settings, seed=seed, resolution=backend.resolution)
    began = time.process_time()
    *_, last = train(backend, encode_training_set(backend, list(concept.training_pictures(seed)), config), config)
    seconds, record = time.process_time() - began, last.record
    fresh = concept.pictures(torch.arange(36) % 6, torch.Generator().manual_seed(31337))
    samples = held_out(backend, encode_training_set(backend, list(fresh), config), config, draws)

    def loss(vectors: Mapping[str, torch.Tensor]) -> float:
        return float(losses(backend, vectors, samples).mean())

    return {
        "seconds": seconds,
        "samples": config.steps * config.batch_size,
        "class word": loss(backend.word_vectors(concept.word)),
        "returned": loss(record.embedding().vectors),
    }


def table(rows: list[Row]) -> str:
    """A line for each recipe: mean, worst, how many runs have learned at least 95 %, and the lead of REFERENCE."""
    floors = {}
    for name in {row["run"]["concept"] for row in rows}:
        ends = sorted(row["returned"] for row in rows if row["run"]["concept"] == name)
        floors[name] = statistics.fmean(ends[:3])
    shares: dict[str, dict[tuple[str, int], float]] = {}
    for row in rows:
        run = row["run"]
        shares.setdefault(run["recipe"], {})[run["concept"], run["seed"]] = share(row, row["returned"], floors)
    titles = ("recipe", "samples", "CPU s", "share learned, mean", "worst", "runs at .95", f"{REFERENCE}: its lead")
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for recipe, mine in shares.items():
        of_recipe = [row for row in rows if row["run"]["recipe"] == recipe]
        worst = min(mine, key=mine.__getitem__)
        lines.append(
            f"| {recipe} | {of_recipe[0]['samples']} | {statistics.median(row['seconds'] for row in of_recipe):.1f} | "
            f"{statistics.fmean(mine.values()):.3f} | {mine[worst]:.2f} ({worst[0]}) | "
            f"{sum(one >= REACHED for one in mine.values())} of {len(mine)} | {lead(shares.get(REFERENCE, {}), mine)} |"
        )
    return "\n".join(lines)


def lead(first: Mapping[Any, float], second: Mapping[Any, float]) -> str:
    """By how much the first recipe leads on the runs that both have, with the standard error; empty for itself."""
    leads = [first[run] - second[run] for run in first if run in second]
    if len(leads) < 2 or not any(leads):
        return ""
    return f"{statistics.fmean(leads):+.3f} +- {statistics.stdev(leads) / len(leads) ** 0.5:.3f}"


def share(row: Row, loss: float, floors: Mapping[str, float]) -> float:
    return (row["class word"] - loss) / (row["class word"] - floors[row["run"]["concept"]])


if __name__ == "__main__":
    main()
