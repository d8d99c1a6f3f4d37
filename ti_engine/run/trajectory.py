"""What grows with a run, in pieces: the vectors after every update, the losses, and the evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..training.record import TrainRecord

_CHUNK_BYTES = 256 << 10  # of vectors in a chunk: the newest, unfinished one is written again and again
_MOST_STEPS = 1000  # in a chunk
_VECTORS, _EVALUATION, _TAIL = "vectors.", "evaluation.", "tail."


def steps_per_chunk(vectors: Mapping[str, Tensor]) -> int:
    """How many states make a chunk of a run with such vectors."""
    size = sum(rows.numel() * rows.element_size() for rows in vectors.values())
    return max(1, min(_MOST_STEPS, _CHUNK_BYTES // max(1, size)))


def chunk_tensors(record: TrainRecord, steps: range) -> dict[str, Tensor]:
    """The part of a record that belongs to `steps`: of n states.

    vectors.<encoder>: [n, num_vectors, width]. losses: [n] in float64, of the updates that led to the states; NaN for
    step 0. evaluation.<step>: [N], the losses of the fixed evaluation set.
    """
    states = record.trajectory[steps.start : steps.stop]
    tensors = {_VECTORS + key: torch.stack([state[key].cpu() for state in states]) for key in states[0]}
    losses = [record.losses[step - 1] if step else math.nan for step in steps]
    tensors["losses"] = torch.tensor(losses, dtype=torch.float64)
    evaluated = [step for step in record.sample_losses if step in steps]
    return tensors | {f"{_EVALUATION}{step}": record.sample_losses[step] for step in evaluated}


def as_tail(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A chunk under names that do not clash with those of a snapshot, for the file of the state."""
    return {_TAIL + name: tensor for name, tensor in tensors.items()}


def tail_in(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The chunk in a file of the state."""
    return {name.removeprefix(_TAIL): tensor for name, tensor in tensors.items() if name.startswith(_TAIL)}


def add_chunk(record: TrainRecord, tensors: Mapping[str, Tensor]) -> None:
    """Appends what `chunk_tensors` took out. Raises ValueError for tensors that it never gives."""
    keys = [name.removeprefix(_VECTORS) for name in tensors if name.startswith(_VECTORS)]
    losses = tensors.get("losses")
    if losses is None or not keys or any(len(tensors[_VECTORS + key]) != len(losses) for key in keys):
        raise ValueError("a part of the trajectory is incomplete.")
    for number, loss in enumerate(losses.tolist()):
        if record.trajectory:
            record.losses.append(loss)
        record.trajectory.append({key: tensors[_VECTORS + key][number].clone() for key in keys})
    for name, values in tensors.items():
        if name.startswith(_EVALUATION):
            record.sample_losses[int(name.removeprefix(_EVALUATION))] = values.clone()
