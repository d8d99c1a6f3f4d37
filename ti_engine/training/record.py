"""What happened in a run so far, for charts, reports and files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..method.sphere import scaled_to
from ..word.embedding import TokenEmbedding
from .result import candidate_states, choose_states, mean_of_states


@dataclass
class TrainRecord:
    """Everything that happened in a run so far. Index 0 is the state before the first update."""

    placeholder: str
    trajectory: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """Step -> encoder key -> vectors [num_vectors, width]: after each update, and at 0 before the first. On disk a long
    run keeps fewer of them once it is over (`thinned`)."""
    losses: list[float] = field(default_factory=list)
    """Training loss of each update."""
    sample_losses: dict[int, Tensor] = field(default_factory=dict)
    """Step -> loss of every sample of the fixed evaluation set [N], before the first update and every `evaluate_every`.
    Nothing is decided by them."""
    candidate_losses: dict[range, Tensor] = field(default_factory=dict)
    """The same for the mean of the states of these steps, for those that may be returned, once the run is over."""
    reached: dict[str, Tensor] = field(default_factory=dict)
    """Encoder key -> [num_vectors], whether each vector ever had a gradient; of the encoders that are trained."""
    stopped: str | None = None
    """Why training ended before its last step, as a sentence; None if it did not."""
    parts: int = 1
    """Parts that batches were computed in at last; more than asked for where memory did not hold them together."""
    ran_out_of_memory: int | None = None
    """The last update that had to be computed again with less memory; None if none had."""
    nondeterministic: list[str] = field(default_factory=list)
    """Operations of the model that torch cannot repeat to the last bit on this device."""
    last_good: int | None = None
    """The last step with good vectors, where trouble ended the run after it; None if the run ended as planned."""
    warnings: list[str] = field(default_factory=list)
    """About captions in which a text encoder does not read the whole word, before the first update; what happened
    outside of the loop, such as previews that could not be drawn, is the caller's to add."""
    norms: dict[str, float] = field(default_factory=dict)
    """Encoder key -> length that its vectors are held at; empty where they may grow."""
    every: int = 1
    """Steps between two states of the trajectory."""
    average: dict[str, Tensor] = field(default_factory=dict)
    """Of a thinned record: the mean of all states that the run may return the mean of."""

    @property
    def evaluations(self) -> dict[int, float]:
        """Step -> mean loss on the fixed evaluation set."""
        single = {steps[0]: losses for steps, losses in self.candidate_losses.items() if len(steps) == 1}
        losses = {**self.sample_losses, **single}
        return {step: float(losses[step].mean()) for step in sorted(losses)}

    @property
    def result_losses(self) -> Tensor | None:
        """Losses [N] of the returned vectors on the fixed evaluation set; None where nobody looked."""
        return self.candidate_losses.get(self.returned)

    @property
    def result_loss(self) -> float | None:
        """Mean loss of the returned vectors on the fixed evaluation set; None where nobody looked."""
        return None if self.result_losses is None else float(self.result_losses.mean())

    @property
    def returned(self) -> range:
        """The steps whose states the returned vectors are the mean of (see result.py)."""
        return choose_states(self.last_state, self.candidate_losses)

    @property
    def last_state(self) -> int:
        """The last step whose vectors are good."""
        return len(self.losses) if self.last_good is None else self.last_good

    def has(self, steps: range) -> bool:
        """Whether the mean of the vectors after `steps` can be had: a thinned record lacks most of its states."""
        return self._is_average(steps) or all(step in self.trajectory for step in steps)

    def mean_vectors(self, steps: range) -> dict[str, Tensor]:
        """Encoder key -> the mean of the vectors after `steps`, of the length that they are held at. Raises KeyError
        for a step that it has not."""
        if self._is_average(steps):
            return {key: rows.clone() for key, rows in self.average.items()}
        mean = mean_of_states([self.trajectory[step] for step in steps])
        if len(steps) == 1:
            return mean
        return {key: scaled_to(rows, self.norms[key]) if key in self.norms else rows for key, rows in mean.items()}

    def _is_average(self, steps: range) -> bool:
        return bool(self.average) and steps == candidate_states(self.last_state)[0]

    def embedding(self, step: int | None = None) -> TokenEmbedding:
        """The word that the run returns, or as it was after `step` updates."""
        steps = self.returned if step is None else range(step, step + 1)
        return TokenEmbedding(self.mean_vectors(steps), self.placeholder)

    def called(self, placeholder: str) -> TrainRecord:
        """The record of the same run with another placeholder, which its warnings name. Shares its tensors with this
        record."""
        warnings = [sentence.replace(self.placeholder, placeholder) for sentence in self.warnings]
        return replace(self, placeholder=placeholder, warnings=warnings)

    def until(self, step: int) -> TrainRecord:
        """The record that the run had after `step` updates, before anybody looked at its candidates.

        A vector counts as reached once it has moved: before its first gradient it cannot. Shares its tensors with this
        record.
        """
        states = {at: vectors for at, vectors in self.trajectory.items() if at <= step}
        out_of_memory = self.ran_out_of_memory
        return TrainRecord(
            self.placeholder,
            states,
            self.losses[:step],
            {at: losses for at, losses in self.sample_losses.items() if at <= step},
            reached={
                key: rows & _moved([state[key] for state in states.values()]) for key, rows in self.reached.items()
            },
            norms=self.norms,
            parts=self.parts,
            ran_out_of_memory=out_of_memory if out_of_memory is not None and out_of_memory <= step else None,
            nondeterministic=list(self.nondeterministic),
            warnings=list(self.warnings),
        )

    def thinned(self, every: int, also: Collection[int] = ()) -> TrainRecord:
        """The record without most of its states, for a run that is over: it keeps every `every`-th, the last, the one
        with the lowest evaluation, those of the steps `also`, and the mean that the run may return. Shares its tensors
        with this record."""
        last, evaluations = self.last_state, {step: loss for step, loss in self.evaluations.items() if loss == loss}
        kept = {*range(0, last, every), last, *also, min(evaluations, key=evaluations.__getitem__, default=last)}
        states = {step: self.trajectory[step] for step in sorted(kept)}
        return replace(self, trajectory=states, every=every, average=self.mean_vectors(candidate_states(last)[0]))

    def unlearned(self) -> Mapping[str, list[int]]:
        """Encoder key -> numbers, from 0, of the vectors that never had a gradient; encoders without any left out."""
        missed = {key: torch.nonzero(~rows).flatten().tolist() for key, rows in self.reached.items()}
        return {key: numbers for key, numbers in missed.items() if numbers}


def _moved(states: list[Tensor]) -> Tensor:
    """[num_vectors], whether each vector is somewhere else in one of `states` than in the first."""
    moved = torch.zeros(len(states[0]), dtype=torch.bool)
    for state in states:
        moved |= state.ne(states[0]).any(1).cpu()
    return moved
