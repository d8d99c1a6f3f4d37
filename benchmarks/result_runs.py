"""What the benchmarks of the returned state share: runs of the toy backend, held-out draws, and a file of rows."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch
from result_tables import Row
from torch import Tensor

from ti_engine import TrainConfig
from ti_engine.data.training_set import TrainingSet
from ti_engine.training.backend import Backend
from ti_engine.training.loss import sample_losses
from ti_engine.training.samples import Samples, draw_fixed_samples, draw_samples

Vectors = Mapping[str, Tensor]
LOOK_EVERY, LOOK_SAMPLES = 10, 16
_PREDICTIONS = ("epsilon", "v_prediction", "flow")


def add_flags(parser: argparse.ArgumentParser, out: str, seeds: int) -> None:
    """--out, the file of rows [out]; --seeds [the first `seeds`]; --draws, how many held-out ones."""
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--seeds", type=int, nargs="*", default=range(seeds))
    parser.add_argument("--draws", type=int, default=2048)


def write_rows(out: Path, runs: Iterator[tuple[Row, Callable[[], Row]]]) -> None:
    """Measures every run that `out` does not hold yet, and appends its row."""
    known = out.read_text("utf-8").splitlines() if out.exists() else []
    done = [json.loads(line)["run"] for line in known]
    for run, measure in runs:
        if run not in done:
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"run": run, **measure()}) + "\n")
            print(run, flush=True)


def toy_runs(
    model: str, seeds: Sequence[int], schedules: Sequence[str], lengths: Sequence[tuple[int, int]]
) -> Iterator[Row]:
    """Runs of each seed with 3 prediction types, these schedules and these (steps, batch size)."""
    for seed in seeds:
        for prediction in _PREDICTIONS:
            for schedule in schedules:
                for steps, batch in lengths:
                    run = {"model": model, "prediction": prediction, "schedule": schedule}
                    yield run | {"steps": steps, "batch_size": batch, "seed": seed}


def toy_setup(run: Row) -> tuple[Backend, TrainingSet, TrainConfig]:
    """What `train` takes for a run of the toy backend."""
    toy = _toy_module()
    backend = toy.ToyBackend(run["prediction"])
    return backend, toy.noisy_set(backend), toy.toy_config(**settings_of(run), schedule=run["schedule"])


def settings_of(run: Row) -> Row:
    """Settings of a run that goes to its last step and looks at nothing on the way."""
    return {name: run[name] for name in ("steps", "batch_size", "seed")} | {"early_stop": False, "evaluate_every": 0}


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


def _toy_module() -> ModuleType:
    """The toy backend of the tests, which are no package."""
    path = Path(__file__).parents[1] / "tests/engine/toy.py"
    spec = importlib.util.spec_from_file_location("toy", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy"] = module
    spec.loader.exec_module(module)
    return module
