"""Whether a run that is killed and goes on is the run that was never broken, to the bit, and how much it loses.

    OMP_NUM_THREADS=1 python benchmarks/reliability.py                          200 moments, toy model
    OMP_NUM_THREADS=1 python benchmarks/reliability.py --model demo --moments 20

Trains a run in a process that is killed with SIGKILL in a random moment, again and again up to five times, then goes on
to its end and compares all that is on disk with a run that was never broken. Half of the runs are written after every
step, so that there is much to hit, half of them as they are, for at most a hundredth of the time. A step is lost if it
was computed and is computed again.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from killing import JOBS, WHERE, Attempt, Job, Moment, attempt, differences

from ti_engine import start_run
from ti_engine.run.store import RunStore

MOST_KILLS = 5  # of one run
STEPS = {"toy": (30, 300), "demo": (6, 40)}  # written after every step, and as it is


@dataclass(frozen=True)
class Loss:
    """What one kill cost. lost: steps that were computed before and are computed again; seconds: that these took."""

    written: str
    where: str
    at_step: int
    lost: int
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=JOBS, default="toy")
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="a line for each moment in place of the table")
    parser.add_argument("--only", choices=("every step", "as it is"), help="one of the two ways to write")
    parser.add_argument("--folder", type=Path, help="where runs are written; a temporary folder if there is none")
    args = parser.parse_args()
    torch.set_num_threads(1)  # processes are forked, which other threads would not survive
    losses: list[Loss] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        ways = [args.only] if args.only else ["every step", "as it is"]
        for number, written in enumerate(ways):
            job = JOBS[args.model](written == "every step", STEPS[args.model][written != "every step"])
            moments = (args.moments + number) // len(ways)
            for loss in kill_and_go_on(job, written, moments, args.seed, Path(folder) / str(number)):
                losses.append(loss)
                if args.json:
                    print(json.dumps(asdict(loss)), flush=True)
                else:
                    print(f"\r{len(losses)} of {args.moments}", end="", file=sys.stderr, flush=True)
    if not args.json:
        print(file=sys.stderr)
        print(table(args.model, losses))
    return 0


def kill_and_go_on(job: Job, written: str, moments: int, seed: int, root: Path) -> Iterator[Loss]:
    """Raises AssertionError where a run is not that which was never broken."""
    draw = random.Random(seed)
    start_run(job.backend, job.config)  # imports much of torch, which every process would do again
    whole = unbroken(job, root / "whole")
    folder = RunStore(root / "whole").folder(job.key)
    seconds = max(whole.times.values()) - min(whole.times.values())
    done, number = 0, 0
    while done < moments:
        number += 1
        broken, kills, step = root / str(number), draw.randint(1, MOST_KILLS), 0
        for _ in range(min(kills, moments - done)):
            share = 1 - step / job.config.steps
            moment = choose(draw, whole, share, done)
            last = attempt(job, broken, moment, seconds * share)
            assert not last.error, last.error
            if not last.killed:
                break  # it came to its end before that moment
            reached, step = max(step, last.reached), next_start(job, broken)
            done += 1
            yield Loss(written, moment.where, reached, reached - step, time_of(last, step))
        end = attempt(job, broken)
        assert not end.error, end.error
        unlike = differences(RunStore(broken).folder(job.key), folder)
        assert not unlike, f"seed {seed}, run {number} differs in {unlike}"


def unbroken(job: Job, root: Path) -> Attempt:
    whole = attempt(job, root)
    assert not whole.error and not whole.killed, whole.error
    return whole


def choose(draw: random.Random, whole: Attempt, share: float, number: int) -> Moment:
    """The kinds of places in turn, and any of the places of a kind, as many as `share` of the steps have."""
    kinds = [kind for kind in WHERE if kind == "time" or whole.places[kind]]
    kind = kinds[number % len(kinds)]
    return Moment(kind, draw.randint(1, max(1, int(share * whole.places[kind]))), draw.random())


def next_start(job: Job, root: Path) -> int:
    """The step that the run goes on from."""
    facts = RunStore(root).folder(job.key).facts()
    return facts["step"] if facts else 0


def time_of(last: Attempt, step: int) -> float:
    """Seconds between the computing of `step` and of the last one."""
    if not last.times:
        return 0.0
    return last.times[last.reached] - last.times.get(step, min(last.times.values()))


def table(model: str, losses: list[Loss]) -> str:
    lines = [
        "| model | written | killed | moments | equal | steps lost, most | mean | seconds lost, most | mean |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for written in dict.fromkeys(loss.written for loss in losses):
        rows = [loss for loss in losses if loss.written == written]
        kinds = {WHERE[kind]: [loss for loss in rows if loss.where == kind] for kind in WHERE}
        for title, some in {**kinds, "all": rows}.items():
            if some:
                steps, seconds = [loss.lost for loss in some], [loss.seconds for loss in some]
                lines.append(
                    f"| {model} | {written} | {title} | {len(some)} | {len(some)} | {max(steps)} | "
                    f"{statistics.mean(steps):.1f} | {max(seconds):.2f} | {statistics.mean(seconds):.2f} |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
