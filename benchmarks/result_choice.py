"""Whether a run returns the right state: its result against the last state, the average and the best of some looks.

    python benchmarks/result_choice.py toy                    3 prediction types, 2 schedules, 4 lengths, 10 seeds
    python benchmarks/result_choice.py demo --seeds 3         8 concepts beyond the vocabulary, with the judge
    python benchmarks/result_choice.py table FILE...          the tables of what these wrote, in Markdown

Every run is trained by `train` with early_stop off, and four states of it are compared on the same
held-out draws (picture, noise, noise level, caption), none of which training or the run's own choice ever saw:

    returned   what `TrainRecord.embedding` gives
    last       the state after the last update
    average    the mean of the states of the second half of the run
    best of 16 of the states after every tenth update, the one with the lowest loss on 16 fixed samples

A difference between two states is the mean of the differences on the same draws, with its standard error. Rows are
appended to FILE (--out), one JSON object a line; a run that FILE already holds is not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from quality import drawer
from result_runs import (
    LOOK_EVERY,
    Vectors,
    add_flags,
    held_out,
    look_losses,
    losses,
    mean_state,
    settings_of,
    toy_runs,
    toy_setup,
    write_rows,
)
from result_tables import Row, report
from torch import Tensor

from ti_engine import TokenEmbedding, TrainConfig, encode_training_set, train
from ti_engine.data.training_set import TrainingSet
from ti_engine.demo.concepts import BEYOND, COMBINATIONS, Concept
from ti_engine.demo.judge import load_judge
from ti_engine.demo.load import load_demo
from ti_engine.demo.quality import Scorer
from ti_engine.standalone import DiffusersBackend
from ti_engine.training.backend import Backend
from ti_engine.training.record import TrainRecord
from ti_engine.training.result import candidate_states
from ti_engine.training.samples import Samples

T = TypeVar("T")
LENGTHS = ((20, 4), (80, 8), (150, 8), (400, 8))  # steps, batch size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("toy", "demo", "table"))
    parser.add_argument("files", type=Path, nargs="*", help="for table")
    parser.add_argument("--concepts", type=int, default=8)
    add_flags(parser, "result_choice.jsonl", seeds=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "table":
        print(report([json.loads(line) for file in args.files for line in file.read_text("utf-8").splitlines()]))
        return
    if args.what == "toy":
        runs = toy_runs("toy", args.seeds, ("cosine", "constant"), LENGTHS)
        write_rows(args.out, ((run, partial(measure_toy, run, args.draws)) for run in runs))
    else:
        write_rows(args.out, demo_runs(args))


def measure_toy(run: Row, draws: int) -> Row:
    backend, dataset, config = toy_setup(run)
    *_, final = train(backend, dataset, config)
    states = states_of(backend, dataset, config, final.record)
    return {**compare(backend, states, held_out(backend, dataset, config, draws)), "lead": seen_lead(final.record)}


def demo_runs(args: argparse.Namespace) -> Iterator[tuple[Row, Callable[[], Row]]]:
    backend, scorer = load_demo(), Scorer(load_judge(), [*COMBINATIONS, *BEYOND])
    for seed in args.seeds:
        for concept in BEYOND[: args.concepts]:
            run = {"model": "demo", "concept": concept.name, "schedule": "cosine"}
            run |= {"steps": TrainConfig().steps, "batch_size": TrainConfig().batch_size, "seed": seed}
            yield run, partial(measure_demo, backend, scorer, concept, run, args.draws)


def measure_demo(backend: DiffusersBackend, scorer: Scorer, concept: Concept, run: Row, draws: int) -> Row:
    """Held-out draws are of 36 fresh renders of the concept, none of them a picture that the run learned from."""
    config = TrainConfig(**settings_of(run), resolution=backend.resolution, initial_words=concept.word)
    dataset = encode_training_set(backend, list(concept.training_pictures(run["seed"])), config)
    *_, final = train(backend, dataset, config)
    states = states_of(backend, dataset, config, final.record)
    fresh = concept.pictures(torch.arange(36) % 6, torch.Generator().manual_seed(31337))
    samples = held_out(backend, encode_training_set(backend, list(fresh), config), config, draws)

    def judge(vectors: Vectors) -> Row:
        return asdict(scorer.score(concept, drawer(backend, TokenEmbedding(dict(vectors))), "S*"))

    return {**compare(backend, states, samples), "lead": seen_lead(final.record), "judge": once_each(states, judge)}


def states_of(backend: Backend, dataset: TrainingSet, config: TrainConfig, record: TrainRecord) -> dict[str, Vectors]:
    states = list(record.trajectory.values())
    looks = [*range(0, config.steps, LOOK_EVERY), config.steps]
    seen = look_losses(backend, dataset, config, [states[step] for step in looks])
    return {
        "returned": record.embedding().vectors,
        "last": states[-1],
        "average": mean_state(states, config.steps // 2),
        "best of 16": states[looks[seen.index(min(seen))]],
    }


def seen_lead(record: TrainRecord) -> tuple[float, float]:
    """By how much the last state led the average on the run's own fixed samples, with its standard error: what the
    run chose by."""
    average, last = candidate_states(record.last_state)
    return paired((record.candidate_losses[average] - record.candidate_losses[last]).double())


def once_each(states: Mapping[str, Vectors], measure: Callable[[Vectors], T]) -> dict[str, T]:
    """`measure` of each state, made once where two are the same bit for bit."""
    measured: dict[str, T] = {}
    for name, vectors in states.items():
        same = [n for n in measured if all(torch.equal(states[n][key], vectors[key]) for key in vectors)]
        measured[name] = measured[same[0]] if same else measure(vectors)
    return measured


def compare(backend: Backend, states: Mapping[str, Vectors], samples: Samples) -> Row:
    """loss: mean of each state. difference: (mean, standard error) of the returned state's losses minus another's."""
    measured = once_each(states, lambda vectors: losses(backend, vectors, samples))
    returned = measured["returned"]
    return {
        "loss": {name: float(values.mean()) for name, values in measured.items()},
        "difference": {name: paired(returned - values) for name, values in measured.items() if name != "returned"},
    }


def paired(differences: Tensor) -> tuple[float, float]:
    return float(differences.mean()), float(differences.std()) / math.sqrt(len(differences))


if __name__ == "__main__":
    main()
