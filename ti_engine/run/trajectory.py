"""What grows with a run: the vectors after every update and the losses, in chunks; and the evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeGuard

import torch
from torch import Tensor

from ..training.record import TrainRecord

_CHUNK_BYTES = 256 << 10  # of vectors in a chunk, at least: the newest states are written again and again until then
_FEWEST_STEPS = 1000  # that make a chunk of small vectors
_LARGEST_CHUNK = 64  # times as long
MOST_BYTES = 20_000_000
"""Of the vectors of a run that is over; a longer trajectory is thinned."""
_VECTORS, _TAIL = "vectors.", "tail."
_EVALUATED, _EVALUATIONS = "evaluated", "evaluations"


def steps_between_kept(record: TrainRecord) -> int:
    """Every how many steps a run that is over keeps a state on disk, so that they are at most MOST_BYTES."""
    return math.ceil(_state_bytes(record) * len(record.trajectory) / MOST_BYTES)


def next_chunk(record: TrainRecord, first: int, step: int) -> range | None:
    """The steps that make the next chunk of a run after `step` updates whose states before `first` are in chunks; None
    as long as they are few, and for a thinned record. The newest state is never one of them."""
    if record.every != 1:
        return None
    size = _state_bytes(record)
    length = max(1, min(_FEWEST_STEPS, _CHUNK_BYTES // max(1, size)))
    return range(first, min(step, first + _LARGEST_CHUNK * length)) if step - first >= length else None


def chunk_tensors(record: TrainRecord, steps: range) -> dict[str, Tensor]:
    """The part of a record that belongs to `steps`: of n states.

    vectors.<encoder>: [n, num_vectors, width]. kept: [n], the steps of these states: all of `steps`, but of a thinned
    record. (Older files have no `kept`.)
    losses: in float64, one for each of `steps`, of the update that led there; NaN for step 0.
    """
    kept = [step for step in steps if step in record.trajectory]
    states = [record.trajectory[step] for step in kept]
    tensors = {_VECTORS + key: torch.stack([state[key].cpu() for state in states]) for key in states[0]}
    losses = [record.losses[step - 1] if step else math.nan for step in steps]
    return tensors | {"kept": torch.tensor(kept), "losses": torch.tensor(losses, dtype=torch.float64)}


def as_tail(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A chunk under names that do not clash with those of a snapshot, for the file of the state."""
    return {_TAIL + name: tensor for name, tensor in tensors.items()}


def tail_in(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The chunk in a file of the state."""
    return {name.removeprefix(_TAIL): tensor for name, tensor in tensors.items() if name.startswith(_TAIL)}


def add_chunk(record: TrainRecord, tensors: Mapping[str, Tensor]) -> None:
    """Appends what `chunk_tensors` took out. Raises ValueError for tensors that it never gives."""
    vectors = {name.removeprefix(_VECTORS): rows for name, rows in tensors.items() if name.startswith(_VECTORS)}
    losses, first = tensors.get("losses"), len(record.losses) + 1 if record.trajectory else 0
    if not _is_row(losses, torch.float64) or not vectors:
        raise ValueError("a part of the trajectory is incomplete.")
    kept = tensors.get("kept", torch.arange(first, first + len(losses)))
    if not _is_row(kept, torch.int64):
        raise ValueError("a part of the trajectory is incomplete.")
    steps = kept.tolist()
    whole = steps == sorted(set(steps)) and [steps[0], steps[-1]] == [first, first + len(losses) - 1]
    if not whole or any(
        rows.ndim != 3 or rows.dtype != torch.float32 or len(rows) != len(kept) for rows in vectors.values()
    ):
        raise ValueError("a part of the trajectory is incomplete.")
    record.losses += losses.tolist() if first else losses.tolist()[1:]
    for number, step in enumerate(steps):
        record.trajectory[step] = {key: rows[number].clone() for key, rows in vectors.items()}


def evaluation_tensors(record: TrainRecord, step: int) -> dict[str, Tensor]:
    """The evaluations after up to `step` updates. evaluated: [E], their steps. evaluations: [E, N], the losses.

    They stay together, beside the state: a run that goes on with more steps may have a larger set, on which all of them
    are made again.
    """
    steps = [number for number in record.sample_losses if number <= step]
    if not steps:
        return {}
    losses = torch.stack([record.sample_losses[number] for number in steps])
    return {_EVALUATED: torch.tensor(steps), _EVALUATIONS: losses}


def add_evaluations(record: TrainRecord, tensors: Mapping[str, Tensor]) -> None:
    """The reverse of `evaluation_tensors`."""
    if _EVALUATED in tensors:
        steps = tensors[_EVALUATED].tolist()
        record.sample_losses.update(zip(steps, tensors[_EVALUATIONS].clone(), strict=True))


def _state_bytes(record: TrainRecord) -> int:
    """Of the vectors of one state."""
    return sum(rows.numel() * rows.element_size() for rows in record.trajectory[0].values())


def _is_row(tensor: Tensor | None, dtype: torch.dtype) -> TypeGuard[Tensor]:
    """Whether it is there, of one dimension, and not empty."""
    return tensor is not None and tensor.ndim == 1 and tensor.dtype == dtype and len(tensor) > 0
