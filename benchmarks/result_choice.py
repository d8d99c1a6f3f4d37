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
import importlib.util
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import torch
from quality import drawer
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
from ti_engine.training.samples import Samples, draw_fixed_samples, draw_samples, sample_losses

Vectors = Mapping[str, Tensor]
T = TypeVar("T")
PREDICTIONS = ("epsilon", "v_prediction", "flow")
LENGTHS = ((20, 4), (80, 8), (150, 8), (400, 8))  # steps, batch size
LOOK_EVERY, LOOK_SAMPLES = 10, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("toy", "demo", "table"))
    parser.add_argument("files", type=Path, nargs="*", help="for table")
    parser.add_argument("--out", type=Path, default=Path("result_choice.jsonl"))
    parser.add_argument("--seeds", type=int, nargs="*", default=range(10))
    parser.add_argument("--concepts", type=int, default=8)
    parser.add_argument("--draws", type=int, default=2048)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "table":
        print(report([json.loads(line) for file in args.files for line in file.read_text("utf-8").splitlines()]))
        return
    write_rows(args.out, (toy_runs if args.what == "toy" else demo_runs)(args))


def write_rows(out: Path, runs: Iterator[tuple[Row, Callable[[], Row]]]) -> None:
    """Measures every run that `out` does not hold yet, and appends its row."""
    known = out.read_text("utf-8").splitlines() if out.exists() else []
    done = [json.loads(line)["run"] for line in known]
    for run, measure in runs:
        if run not in done:
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"run": run, **measure()}) + "\n")
            print(run, flush=True)


def toy_runs(args: argparse.Namespace) -> Iterator[tuple[Row, Callable[[], Row]]]:
    for seed in args.seeds:
        for prediction in PREDICTIONS:
            for schedule in ("cosine", "constant"):
                for steps, batch in LENGTHS:
                    run = {"model": "toy", "prediction": prediction, "schedule": schedule}
                    run |= {"steps": steps, "batch_size": batch, "seed": seed}
                    yield run, partial(measure_toy, run, args.draws)


def measure_toy(run: Row, draws: int) -> Row:
    toy = toy_module()
    backend = toy.ToyBackend(run["prediction"])
    dataset = toy.noisy_set(backend)
    config = toy.toy_config(**settings_of(run), schedule=run["schedule"])
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


def settings_of(run: Row) -> Row:
    """Settings of a run that goes to its last step and looks at nothing on the way."""
    return {name: run[name] for name in ("steps", "batch_size", "seed")} | {"early_stop": False, "evaluate_every": 0}


def states_of(backend: Backend, dataset: TrainingSet, config: TrainConfig, record: TrainRecord) -> dict[str, Vectors]:
    states = record.trajectory
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


def mean_state(states: Sequence[Vectors], after: int) -> Vectors:
    """Mean of the states after update number `after`."""
    return {key: torch.stack([state[key] for state in states[after + 1 :]]).mean(0) for key in states[0]}


def look_losses(backend: Backend, dataset: TrainingSet, config: TrainConfig, states: Sequence[Vectors]) -> list[float]:
    """Mean loss of each state on 16 samples that are the same for all."""
    samples = draw_fixed_samples(backend.schedule, dataset, config, LOOK_SAMPLES, config.seed ^ 0x5EED)
    return [float(losses(backend, vectors, samples).mean()) for vectors in states]


def held_out(backend: Backend, dataset: TrainingSet, config: TrainConfig, draws: int) -> Samples:
    """`draws` samples as an update draws them, with the levels stratified over all of them; the same for every run."""
    generator = torch.Generator().manual_seed(4242)
    return draw_samples(backend.schedule, dataset, replace(config, batch_size=draws), generator)


@torch.no_grad()
def losses(backend: Backend, vectors: Vectors, samples: Samples) -> Tensor:
    """The loss of each sample."""
    parts = []
    for start in range(0, len(samples.captions), 128):
        part = samples.part(slice(start, start + 128), backend.device)
        cond = backend.encode(part.captions, {"S*": vectors}, differentiable=False).cond
        parts.append(sample_losses(backend, part, cond))
    return torch.cat(parts).double()


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


def toy_module() -> ModuleType:
    """The toy backend of the tests, which are no package."""
    path = Path(__file__).parents[1] / "tests/engine/toy.py"
    spec = importlib.util.spec_from_file_location("toy", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy"] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
