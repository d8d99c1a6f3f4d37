"""What the order of sums and the number of threads cost a step of the demo model.

    python benchmarks/threads.py            a step with deterministic kernels against one without
    python benchmarks/threads.py 2          a step with 1 thread against one with 2

Pairs in one process, in changing order; the median of the ratios. The first counts the process's own time, so that it
can be taken on a busy machine; what other programs do decides the second.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch

from ti_engine import TrainConfig, encode_training_set, train
from ti_engine.demo.examples import example_pictures
from ti_engine.demo.load import load_demo
from ti_engine.training import gradients
from ti_engine.training.determinism import deterministic_kernels

PAIRS = 12


def main() -> None:
    threads = [int(number) for number in sys.argv[1:]]
    clock = time.perf_counter if threads else time.process_time
    backend = load_demo()
    config = TrainConfig(resolution=backend.resolution, steps=10_000, evaluate_every=0, initial_words="heart")
    loop = train(backend, encode_training_set(backend, list(example_pictures()), config), config)

    def seconds(prepare: Callable[[], object]) -> float:
        prepare()
        begin = clock()
        next(loop)
        return clock() - begin

    def kernels(context: object) -> Callable[[], object]:
        return lambda: setattr(gradients, "deterministic_kernels", context)

    def use(number: int) -> Callable[[], object]:
        return lambda: torch.set_num_threads(number)

    torch.set_num_threads(1)
    one, other = (use(1), use(threads[0])) if threads else (kernels(deterministic_kernels), kernels(nullcontext))
    for _ in range(3):
        seconds(one)
    ratios, times = [], {one: [], other: []}
    for number in range(PAIRS):
        order = (one, other) if number % 2 else (other, one)
        taken = {kind: seconds(kind) for kind in order}
        ratios.append(taken[one] / taken[other])
        for kind, value in taken.items():
            times[kind].append(value)
    names = ("1 thread", f"{threads[0]} threads") if threads else ("deterministic", "as torch likes")
    for kind, name in zip((one, other), names, strict=True):
        print(f"{name}: median {statistics.median(times[kind]):.4f} s a step of {config.batch_size} samples")
    print(f"{names[0]} / {names[1]} = {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
