"""What early stopping costs and saves on the toy backend of the tests, with 2,000 updates allowed.

    python benchmarks/early_stop.py --seeds 0 1 2 3           3 prediction types, 2 schedules
    python benchmarks/result_choice.py table FILE...          the table of what it wrote, in Markdown

Five ways to end a run, by the updates spent and the loss on the held-out draws of result_runs.py: `early_stop`, no
early stop (the returned state, and the last one), and two rules that the engine does not use, computed from the states
of the whole run: to return the best look and stop when eight looks in a row were no better; and to stop when the
variance of the last looks is small (Voronov et al. 2023, arXiv 2302.04841), and return the mean of their states.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from functools import partial

import torch
from result_runs import (
    LOOK_EVERY,
    Vectors,
    add_flags,
    held_out,
    look_losses,
    losses,
    mean_state,
    toy_runs,
    toy_setup,
    write_rows,
)
from result_tables import Row

from ti_engine import train

ALLOWED = 2000  # updates
VARIANCE_WINDOW, VARIANCE_RATIO = 310, 0.15  # updates; both as Voronov et al. have them for textual inversion


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser, "early_stop.jsonl", seeds=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    runs = toy_runs("stop", args.seeds, ("constant", "cosine"), [(ALLOWED, 8)])
    write_rows(args.out, ((run, partial(measure_stop, run, args.draws)) for run in runs))


def measure_stop(run: Row, draws: int) -> Row:
    """Updates spent and held-out loss: with early stopping, without, and as two other rules would have stopped."""
    backend, dataset, config = toy_setup(run)
    *_, stopped = train(backend, dataset, replace(config, early_stop=True))
    *_, whole = train(backend, dataset, config)
    states = list(whole.record.trajectory.values())
    looks = range(0, ALLOWED + 1, LOOK_EVERY)
    seen = look_losses(backend, dataset, config, [states[step] for step in looks])
    best, patience_end = after_eight_looks(seen)
    variance_end = variance_stop(seen)
    ends: dict[str, tuple[int, Vectors]] = {
        "early stop": (len(stopped.record.losses), stopped.record.embedding().vectors),
        "no stop, returned": (ALLOWED, whole.record.embedding().vectors),
        "no stop, last": (ALLOWED, states[-1]),
        "best look, eight without a better one": (patience_end * LOOK_EVERY, states[best * LOOK_EVERY]),
        "variance criterion, mean of its window": (
            variance_end * LOOK_EVERY,
            mean_state(states[: variance_end * LOOK_EVERY + 1], variance_end * LOOK_EVERY - VARIANCE_WINDOW),
        ),
    }
    samples = held_out(backend, dataset, config, draws)
    return {
        "updates": {name: updates for name, (updates, _) in ends.items()},
        "loss": {name: float(losses(backend, vectors, samples).mean()) for name, (_, vectors) in ends.items()},
    }


def after_eight_looks(seen: list[float]) -> tuple[int, int]:
    """(best look, look at which the run ends): eight looks without a better one, but not before 100 updates."""
    for look in range(100 // LOOK_EVERY, len(seen)):
        best = seen.index(min(seen[: look + 1]))
        if look - best >= 8:
            return best, look
    return seen.index(min(seen)), len(seen) - 1


def variance_stop(seen: list[float]) -> int:
    """The look at which the variance of the last 310 updates' losses is small beside that of all."""
    window = VARIANCE_WINDOW // LOOK_EVERY
    ends = range(window, len(seen))
    under = (
        i
        for i in ends
        if statistics.variance(seen[i + 1 - window : i + 1]) < VARIANCE_RATIO * statistics.variance(seen[: i + 1])
    )
    return next(under, len(seen) - 1)


if __name__ == "__main__":
    main()
