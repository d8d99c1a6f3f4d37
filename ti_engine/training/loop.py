"""The loop: learn the vectors of one word with both networks frozen (Gal et al. 2022, arXiv 2208.01618).

    v* = argmin_v E || target - model(z_t, t, c(y; v)) ||^2

It is a generator. Progress, cancel, previews and saving are the caller's `for` body; to stop, stop iterating.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..data.training_set import TrainingSet
from ..memory.out_of_memory import is_out_of_memory, out_of_memory_forgiven
from ..word.embedding import TokenEmbedding
from .backend import Backend
from .config import TrainConfig
from .evaluation_set import draw_evaluation_set
from .gradients import GradientSum, gradients_of
from .samples import draw_samples
from .start_vectors import initial_vectors, trained_encoders

FINAL_LEARNING_RATE = 0.05  # of the full one, at the end of the cosine
_PATIENCE = 8  # evaluations without a better state before training stops early
_LEAST_STEPS = 100  # updates before it may


@dataclass
class TrainRecord:
    """Everything that happened in a run so far. Index 0 is the state before the first update."""

    placeholder: str
    trajectory: list[dict[str, Tensor]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Training loss of each update, so one shorter than the trajectory."""
    evaluations: dict[int, float] = field(default_factory=dict)
    """Step -> loss on the fixed evaluation set."""
    stopped: str | None = None
    """Why training ended before its last step, as a sentence; None if it did not."""
    parts: int = 1
    """Parts that batches were computed in at last; more than asked for where memory did not hold them together."""
    ran_out_of_memory: int | None = None
    """The last update that had to be computed anew in a smaller way, because memory ran out; None if none had."""
    last_good: int | None = None
    """The last step whose vectors gave a finite loss, where later ones did not; None if all did."""

    @property
    def best_step(self) -> int:
        """The evaluated step with the lowest loss; the last one if none was evaluated but the start."""
        last = len(self.trajectory) - 1 if self.last_good is None else self.last_good
        evaluated = [step for step in self.evaluations if step <= last]
        if not any(evaluated):
            return last
        finite = [step for step in evaluated if math.isfinite(self.evaluations[step])]
        return min(finite, key=self.evaluations.__getitem__, default=0)

    def embedding(self, step: int | None = None) -> TokenEmbedding:
        """The word as it was after `step` updates; by default the best state."""
        vectors = self.trajectory[self.best_step if step is None else step]
        return TokenEmbedding({key: rows.clone() for key, rows in vectors.items()}, self.placeholder)


@dataclass(frozen=True)
class TrainStep:
    """One turn of the loop. Step 0 comes before the first update; its loss is NaN."""

    index: int
    loss: float
    learning_rate: float
    """The rate of this update as TrainConfig tells it: for a vocabulary of SD1's scale."""
    record: TrainRecord


def train(
    backend: Backend, dataset: TrainingSet, config: TrainConfig, start: TokenEmbedding | None = None
) -> Generator[TrainStep, None, None]:
    """Yields a TrainStep before the first and after every update; the last one's record holds the result.

    A loss or gradient that is not finite, a gradient that is exactly zero, or memory that no longer suffices ends the
    run: the last good vectors are kept, and one more TrainStep brings that loss, and the reason in `record.stopped`.
    Raises ValueError for settings that do not fit the model, and what is_out_of_memory knows before anything was
    learned.
    """
    generator = torch.Generator().manual_seed(config.seed)
    vectors = initial_vectors(backend, config, start)
    # Now and not when such a caption happens to be drawn: what was learned until then would be lost.
    backend.check_captions(dataset.captions.all(), config.placeholder, config.num_vectors)
    trained = {key: vectors[key].requires_grad_(True) for key in trained_encoders(backend, config)}
    optimizer = torch.optim.AdamW(
        # Gradients are as much smaller as a vocabulary is larger, so eps has to be, for one rate to suit all.
        [{"params": [v], "scale": (s := backend.encoders[k].scale), "eps": 1e-8 / s} for k, v in trained.items()],
        betas=(0.9, 0.99),
        weight_decay=0.0,
    )
    gradient_sum = GradientSum(backend, config, vectors)
    evaluation_set = draw_evaluation_set(backend, dataset, config) if config.evaluate_every else None
    record = TrainRecord(config.placeholder)

    def look(step: int) -> None:
        fixed, word = evaluation_set, record.trajectory[step]
        if fixed is not None and step not in record.evaluations:
            record.evaluations[step] = gradient_sum.in_memory(
                lambda: fixed.loss(backend, word, config.batch_size // gradient_sum.parts)
            )

    def keep(step: int) -> None:
        record.trajectory.append({k: v.detach().clone() for k, v in vectors.items()})
        if config.evaluate_every and (step % config.evaluate_every == 0 or step == config.steps):
            look(step)

    def end(reason: str, last_good: int, loss: float) -> TrainStep:
        record.stopped, record.last_good = reason, last_good
        with out_of_memory_forgiven():
            look(last_good)  # or nothing would be known of it where the run has ended between two evaluations
        return TrainStep(len(record.trajectory) - 1, loss, learning_rate, record)

    keep(0)
    yield TrainStep(0, math.nan, 0.0, record)
    for step in range(1, config.steps + 1):
        learning_rate = config.learning_rate * learning_rate_factor(config, step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group["scale"]
        loss = None
        try:
            loss = gradient_sum.of(draw_samples(backend.schedule, dataset, config, generator))
        except Exception as error:
            if not record.losses or not is_out_of_memory(error):
                raise
        if loss is None:
            yield end(
                f"There was no memory for step {step}. Lower the batch size or the resolution.", step - 1, math.nan
            )
            return
        record.parts = gradient_sum.parts
        if gradient_sum.ran_out:
            record.ran_out_of_memory, gradient_sum.ran_out = step, False
        trouble = _trouble(step, loss, vectors)
        if trouble:
            # Where the loss is not finite, it is the vectors of the step before that gave it.
            yield end(trouble, step - 1 if math.isfinite(loss) else max(0, step - 2), loss)
            return
        if config.gradient_clip:
            torch.nn.utils.clip_grad_norm_(trained.values(), config.gradient_clip)
        optimizer.step()
        record.losses.append(loss)
        with out_of_memory_forgiven():  # the next step will tell, if there is one
            keep(step)
        if config.early_stop and step < config.steps and _no_longer_falls(record, step):
            record.stopped = f"The loss on the fixed evaluation set has not fallen since step {record.best_step}."
        yield TrainStep(step, loss, learning_rate, record)
        if record.stopped:
            return


def learning_rate_factor(config: TrainConfig, step: int) -> float:
    """Share of the full learning rate at update `step` (1 to steps): linear warm-up, then the schedule."""
    warm_up = min(1.0, step / (config.warmup_steps + 1))
    if config.schedule == "constant":
        return warm_up
    cosine = 0.5 * (1 + math.cos(math.pi * (step - 1) / max(1, config.steps - 1)))
    return warm_up * (FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * cosine)


def _trouble(step: int, loss: float, vectors: Mapping[str, Tensor]) -> str | None:
    """Why update `step` must not be made, as sentences; None if it may."""
    gradients = gradients_of(vectors)
    if not math.isfinite(loss) or not all(bool(g.isfinite().all()) for g in gradients):
        what = "gradient is not finite" if math.isfinite(loss) else f"loss became {loss}"
        if step == 1:  # before any update, so no learning rate can be the cause
            return (
                f"The {what} at step 1, before anything was learned. A model in float16 may not hold its own numbers: "
                "load it in float32 or bfloat16. One that is in these already is broken, or its weights are."
            )
        return f"The {what} at step {step}; the vectors from before are kept. Lower the learning rate."
    if not any(bool(g.any()) for g in gradients):
        return (
            "The gradient of the word is exactly zero, so nothing can be learned: the word does not reach the model, "
            "or the model's precision swallows it."
        )
    return None


def _no_longer_falls(record: TrainRecord, step: int) -> bool:
    late = [s for s in record.evaluations if s > record.best_step]
    return step >= _LEAST_STEPS and step in record.evaluations and len(late) >= _PATIENCE
