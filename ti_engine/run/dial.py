"""The dial along what a run went through: its states from the start to the word, calibrated on its fixed set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..files.formats.metadata import training_record
from ..training.record import TrainRecord
from ..training.result import describe_states
from ..word.dial import Dialled, calibrated_place, check_position, path_through, rising_knots
from ..word.embedding import TokenEmbedding
from .folder import SavedRun


def along_trajectory(
    record: TrainRecord, steps: range, learned: TokenEmbedding, position: float, class_word: str = "", noun: str = ""
) -> Dialled:
    """The word at a position on the way from the start of a run to `learned`, through the states that the run has.

    steps: whose mean `learned` is (see `steps_of`). class_word: for prompts only, as `noun`, that the word was trained
    with behind it. Where losses on the fixed evaluation set are known on the way, a position is the share of the loss's
    fall that is reached there; otherwise it is the share of the way. Raises ValueError with a sentence where `learned`
    has other vectors than the run, and where it is still at its start.
    """
    check_position(position)
    before = [step for step in sorted(record.trajectory) if step < max(steps[0], 1)]
    states = [record.trajectory[step] for step in before] + [learned.vectors]
    if {key: rows.shape for key, rows in states[0].items()} != {key: rows.shape for key, rows in states[-1].items()}:
        raise ValueError(
            f"{learned.placeholder} has other vectors than its run; take the word as it comes from the run, or the "
            "path direction."
        )
    path, kept = path_through(states)
    places = {before[number]: place for number, place in zip(kept[:-1], path.places, strict=False)}
    knots, why_not = _knots(record, steps, places)
    place = calibrated_place(position, knots)
    word, start = (TokenEmbedding(vectors, learned.placeholder) for vectors in (path.at(place), path.at(0)))
    return Dialled(word, start, learned, "trajectory", position, class_word, place, len(knots), why_not, noun=noun)


def steps_of(saved: SavedRun, learned: TokenEmbedding) -> range:
    """The steps of the run whose mean `learned` is, as its metadata says. ValueError if it is not of this run, or is
    its start."""
    made = training_record(learned.metadata)
    steps = _as_steps(made.get("returned_steps"), saved.record.last_state)
    if made.get("run") != saved.folder.id or steps is None:
        raise ValueError(
            f"{learned.placeholder} is not a word of the run {saved.folder.id}; take the word that comes with the run, "
            "or the path direction."
        )
    if steps[-1] == 0:
        raise ValueError(f"{learned.placeholder} is the start of its run, so there is no way to go.")
    return steps


def _as_steps(ends: Any, last: int) -> range | None:
    """The steps between two `ends` that a file gives, both included; None if no run that ends at `last` has them."""
    if not isinstance(ends, list) or [type(end) for end in ends] != [int, int] or not 0 <= ends[0] <= ends[1] <= last:
        return None
    return range(ends[0], ends[1] + 1)


def _knots(record: TrainRecord, steps: range, places: Mapping[int, float]) -> tuple[list[tuple[float, float]], str]:
    """(place on the path, share of the loss's fall) of the steps between the two ends that a dial can go by; and where
    there are none, why, to follow "because"."""
    losses = record.evaluations
    start = losses.get(0)
    end = record.result_loss if steps == record.returned else losses.get(steps[0]) if len(steps) == 1 else None
    if start is None:
        return [], "the loss at the start of the run is not known"
    if end is None:
        return [], f"the loss of {describe_states(steps)} is not known"
    if not end < start:
        return [], f"the loss of {describe_states(steps)} is no lower than that at the start of the run"
    looked_at = [step for step in places if step and math.isfinite(losses.get(step, math.nan))]
    if not looked_at:
        return [], "no losses are known between the two ends"
    knots = rising_knots([(places[step], (start - losses[step]) / (start - end)) for step in looked_at])
    return knots, "" if knots else "no loss that is known on the way lies between those of the two ends"
