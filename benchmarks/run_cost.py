"""Which share of a run's time goes into keeping it on disk, and whether that grows with the run.

    OMP_NUM_THREADS=1 python benchmarks/run_cost.py              the demo model, and the toy with wide vectors
    OMP_NUM_THREADS=1 python benchmarks/run_cost.py --only toy --steps 2000

Time inside `keep` and `finish` by that of the whole run, measured in the same run, so the ratio hardly depends on what
else the machine does. The toy's vectors are as wide as a language model's: two encoders, 4096 numbers, four vectors,
128 KB for each state.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ti_engine import Backend, TrainConfig, TrainingSet, encode_training_set, start_run, train
from ti_engine.run.store import RunStore

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "engine"))
from toy import ToyBackend, noisy_set, toy_config

PARTS = 4  # of a run


@dataclass
class Cost:
    """Seconds of a part of a run: of all of it, inside `keep`, between two writes; and what was written."""

    total: float = 0.0
    kept: float = 0.0
    writes: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    state_bytes: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("demo", "toy"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--folder", type=Path, help="where the run is written; a temporary folder if there is none")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| run | steps | share of keeping | a write, median ms | seconds between writes, mean | most | state, KB |")
    print("|---|---|---|---|---|---|---|")
    for name, make in {"demo": demo, "toy": wide_toy}.items():
        if args.only in (None, name):
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                show(name, args.steps, measure(*make(args.steps), Path(folder)))


def demo(steps: int) -> tuple[Backend, TrainingSet, TrainConfig]:
    from ti_engine.demo.examples import example_pictures
    from ti_engine.demo.load import load_demo

    backend = load_demo()
    config = TrainConfig(steps=steps, resolution=backend.resolution, early_stop=False)
    return backend, encode_training_set(backend, list(example_pictures()), config), config


def wide_toy(steps: int) -> tuple[Backend, TrainingSet, TrainConfig]:
    backend = ToyBackend(widths={"clip_l": 4096, "clip_g": 4096})
    return backend, noisy_set(backend), toy_config(steps=steps, num_vectors=4, early_stop=False)


def measure(backend: Backend, dataset: TrainingSet, config: TrainConfig, root: Path) -> list[Cost]:
    """The cost of each part of the run; the last one's includes the end of the run."""
    parts = [Cost() for _ in range(PARTS)]
    state_file = RunStore(root).folder("a" * 32).state_file
    with RunStore(root).open("a" * 32, {"settings": config.to_dict()}, False, print) as run:
        state = start_run(backend, config)
        mark = last_write = time.perf_counter()
        inode = 0

        def keep(part: Cost, call: Callable[[], None]) -> None:
            nonlocal last_write, inode
            began = time.perf_counter()
            call()
            ended = time.perf_counter()
            part.kept += ended - began
            status = state_file.stat()
            if status.st_ino != inode:  # was written anew
                inode, part.state_bytes = status.st_ino, status.st_size
                part.writes.append(ended - began)
                part.gaps.append(ended - last_write)
                last_write = ended

        for step in train(backend, dataset, config, state):
            part = parts[min(PARTS - 1, step.index * PARTS // config.steps)]
            keep(part, lambda step=step: run.keep(step))
            now = time.perf_counter()
            part.total, mark = part.total + now - mark, now
        keep(parts[-1], lambda: run.finish(state, config))
        parts[-1].total += time.perf_counter() - mark
    return parts


def show(name: str, steps: int, parts: list[Cost]) -> None:
    whole = Cost(
        sum(part.total for part in parts),
        sum(part.kept for part in parts),
        [seconds for part in parts for seconds in part.writes],
        [seconds for part in parts for seconds in part.gaps],
        parts[-1].state_bytes,
    )
    titles = ["all", *(f"part {number} of {PARTS}" for number in range(1, PARTS + 1))]
    for title, cost in zip(titles, [whole, *parts], strict=True):
        write, gaps = statistics.median(cost.writes or [0]) * 1e3, cost.gaps or [0]
        print(
            f"| {name}, {title} | {steps if cost is whole else steps // PARTS} | {cost.kept / cost.total:.2%} | "
            f"{write:.1f} | {statistics.mean(gaps):.2f} | {max(gaps):.2f} | {cost.state_bytes / 1e3:.0f} |"
        )


if __name__ == "__main__":
    main()
