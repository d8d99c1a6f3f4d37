"""A run between two updates, as tensors and facts for a file, and back again to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..training.record import TrainRecord
from ..training.state import RunState

_OPTIMIZER, _VECTORS, _REACHED, _CANDIDATE, _AVERAGE = "optimizer.", "vectors.", "reached.", "candidate.", "average."


@dataclass(frozen=True)
class Snapshot:
    """All of a RunState but what grows with the run (trajectory.py), in memory of its own.

    record: of the run itself, which goes on; only its first `step` updates belong to the snapshot.
    """

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    record: TrainRecord


def take_snapshot(state: RunState) -> Snapshot:
    """The state as it is now, between two updates."""
    record, scale = state.record, state.loss_scale
    tensors = {f"{_VECTORS}{key}": rows.detach().clone() for key, rows in state.vectors.items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"{_OPTIMIZER}{number}.{name}": value.detach().clone() for name, value in moments.items()}
    tensors["generator"] = state.generator.get_state()
    if state.window_losses is not None:
        tensors["window_losses"] = state.window_losses.clone()
    tensors |= {f"{_REACHED}{key}": rows.clone() for key, rows in record.reached.items()}
    tensors |= {f"{_CANDIDATE}{s.start}.{s.stop}": losses for s, losses in record.candidate_losses.items()}
    tensors |= {f"{_AVERAGE}{key}": rows.clone() for key, rows in record.average.items()}
    facts = {
        "step": state.step,
        "every": record.every,
        "loss_scale": [scale.value, scale.highest, scale.good_updates],
        "parts": state.parts,
        "cool_down": state.cool_down,
        "placeholder": record.placeholder,
        "stopped": record.stopped,
        "record_parts": record.parts,
        "ran_out_of_memory": record.ran_out_of_memory,
        "nondeterministic": list(record.nondeterministic),
        "norms": dict(record.norms),
        "last_good": record.last_good,
        "warnings": list(record.warnings),
    }
    return Snapshot(state.step, tensors, facts, record)


def restore_record(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> TrainRecord:
    """The record of a snapshot, still without what grows with a run."""
    return TrainRecord(
        placeholder=facts["placeholder"],
        norms=facts["norms"],
        every=facts["every"],
        average=_part(tensors, _AVERAGE),
        candidate_losses={_range(name): losses for name, losses in _part(tensors, _CANDIDATE).items()},
        reached=_part(tensors, _REACHED),
        stopped=facts["stopped"],
        parts=facts["record_parts"],
        ran_out_of_memory=facts["ran_out_of_memory"],
        nondeterministic=list(facts["nondeterministic"]),
        last_good=facts["last_good"],
        warnings=list(facts["warnings"]),
    )


def restore_state(
    state: RunState, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], record: TrainRecord
) -> None:
    """Turns the fresh start of a run (`start_run`) into the state that the snapshot was taken of.

    record: of the snapshot, complete. Raises ValueError where the snapshot is of vectors of another shape.
    """
    vectors = vectors_in(tensors)
    if {key: rows.shape for key, rows in vectors.items()} != {key: rows.shape for key, rows in state.vectors.items()}:
        raise ValueError("its vectors have another shape than those of this run.")
    with torch.no_grad():
        for key, rows in state.vectors.items():
            rows.copy_(vectors[key])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, _OPTIMIZER).items():
        number, moment = name.split(".", 1)
        moments.setdefault(int(number), {})[moment] = value
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    state.generator.set_state(tensors["generator"])
    state.step, state.parts = facts["step"], facts["parts"]
    state.loss_scale.value, state.loss_scale.highest, state.loss_scale.good_updates = facts["loss_scale"]
    state.window_losses = tensors.get("window_losses")
    state.cool_down = None if facts["cool_down"] is None else (facts["cool_down"][0], facts["cool_down"][1])
    record.placeholder = state.record.placeholder
    state.record = record


def vectors_in(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Encoder key -> vectors [num_vectors, width] of a snapshot, in memory of their own."""
    return _part(tensors, _VECTORS)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value.clone() for name, value in tensors.items() if name.startswith(prefix)}


def _range(text: str) -> range:
    start, stop = text.split(".")  # any other number is a ValueError
    return range(int(start), int(stop))
