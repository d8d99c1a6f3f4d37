"""The loss of a run as curves. The chart in the page and the picture of it draw these same numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ...ti_engine import TrainRecord
from ...ti_engine.training.result import describe_states

MOST_POINTS = 512  # more than a chart on a node has pixels

Point = tuple[int, float]


def chart_of(record: TrainRecord, steps: int) -> dict[str, Any]:
    """All that is drawn of a run, ready for JSON: losses that are not finite are left out.

    step: updates so far, -1 before training begins. steps: updates asked for.
    batches: [[step, loss], ...], the loss of single batches; of more than 512, the means of neighbours.
    smoothed: their moving average, at the same steps. evaluations: the loss on the fixed set, at most 512 points.
    result: what the run returns, None while it goes on and where nobody looked: the first and the last step of the
    states, these in words, and the loss on the fixed set.
    stopped: why the run ended before its last step, None if it did not.
    """
    batches = _thinned(_finite(enumerate(record.losses, 1)))
    evaluations = _finite(sorted(record.evaluations.items()))
    return {
        "step": len(record.losses) if record.trajectory else -1,
        "steps": steps,
        "batches": batches,
        "smoothed": smoothed(batches),
        "evaluations": evaluations[:: _stride(evaluations)],
        "result": _result(record),
        "stopped": record.stopped,
    }


def _result(record: TrainRecord) -> dict[str, Any] | None:
    loss = record.result_loss if record.trajectory else None
    if loss is None or not math.isfinite(loss):
        return None
    steps = record.returned
    return {"steps": [steps[0], steps[-1]], "states": describe_states(steps), "loss": loss}


def smoothed(points: Sequence[Point]) -> list[Point]:
    """Exponential moving average without the pull of its start towards zero; it forgets within a 25th of the run."""
    memory = min(200.0, max(4.0, len(points) / 25))
    keep, mean, weight = 1 - 1 / memory, 0.0, 0.0
    smooth: list[Point] = []
    for step, loss in points:
        mean, weight = keep * mean + (1 - keep) * loss, keep * weight + (1 - keep)
        smooth.append((step, mean / weight))
    return smooth


def _finite(points: Iterable[Point]) -> list[Point]:
    return [(step, loss) for step, loss in points if math.isfinite(loss)]


def _thinned(points: list[Point]) -> list[Point]:
    """Means of as many neighbours as leave no more than MOST_POINTS, each at the last of their steps."""
    stride = _stride(points)
    groups = [points[i : i + stride] for i in range(0, len(points), stride)]
    return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]


def _stride(points: Sequence[Point]) -> int:
    return max(1, -(-len(points) // MOST_POINTS))
