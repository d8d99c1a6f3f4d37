"""Any state of a run as a word: chosen afterwards, without training."""

from __future__ import annotations

from ..files.formats.metadata import training_metadata
from ..training.result import describe_states
from ..word.embedding import TokenEmbedding
from .folder import SavedRun


def pick_word(saved: SavedRun, steps: range | None) -> TokenEmbedding:
    """The mean of the vectors after `steps`, of one or more without gaps; None: what the run returned.

    Its metadata is the record of the training, with the id of the run and the steps. Raises ValueError with a sentence
    for steps that the run does not have and for a damaged config.json, OSError where that cannot be read.
    """
    record = saved.record
    chosen = record.returned if steps is None else steps_between(saved, steps.start, steps.stop - 1)
    about, notes = saved.folder.config(), saved.notes
    metadata = training_metadata(
        about.get("settings", {}), record, about.get("model", ""), notes.get("sha256"), about.get("pictures", 0),
        notes.get("fingerprint"), about.get("started_from"), saved.folder.id, chosen,
    )  # fmt: skip
    return TokenEmbedding(record.mean_vectors(chosen), record.placeholder, metadata)


def steps_between(saved: SavedRun, first: int, last: int) -> range:
    """The steps from `first` to `last`, both included. Negative ones count from the end: -1 is the last of the run.
    Of a run that keeps every n-th state only, every n-th step between them.

    Raises ValueError with a sentence for steps that the run does not have, and if `last` comes before `first`.
    """
    record, end = saved.record, saved.record.last_state
    steps = [step + end + 1 if step < 0 else step for step in (first, last)]
    for given, step in zip((first, last), steps, strict=True):
        if not 0 <= step <= end:
            broken = "" if saved.record.last_good is None else ", after which trouble ended it"
            raise ValueError(f"The run has no step {given}: its steps go from 0 to {end}{broken}.")
    if steps[1] < steps[0]:
        raise ValueError(f"The window ends at step {steps[1]}, before its first step, {steps[0]}.")
    every, asked_for = record.every, range(steps[0], steps[1] + 1)
    if record.has(asked_for):
        return asked_for
    kept = range(-(-steps[0] // every) * every, steps[1] + 1, every)
    if not kept and steps[1] in record.trajectory:
        return range(steps[1], steps[1] + 1)
    if not kept or len(asked_for) == 1:
        near = sorted(sorted(record.trajectory, key=lambda step: abs(step - steps[0]))[:2])
        raise ValueError(
            f"The run no longer has {describe_states(asked_for)}: its vectors took so much room that it keeps those of "
            f"every {every} steps. Near are steps {near[0]} and {near[1]}."
        )
    return kept


def spread_steps(saved: SavedRun, count: int) -> list[int]:
    """At most `count` steps, evenly from the first, before any update, to the last; of one only the last. Of a run that
    keeps fewer states, the nearest."""
    end = saved.record.last_state
    wanted = [end] if count == 1 else [end * number / (count - 1) for number in range(count)]
    return sorted({min(saved.record.trajectory, key=lambda kept: (abs(kept - step), kept)) for step in wanted})
