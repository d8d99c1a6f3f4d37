"""The loop: learn the vectors of one word with both networks frozen (Gal et al. 2022, arXiv 2208.01618).

    v* = argmin_v E || target - model(z_t, t, c(y; v)) ||^2

It is a generator. Progress, cancel, previews and saving are the caller's `for` body; to stop, stop iterating.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass

from ..data.training_set import TrainingSet
from ..memory.ladder import Ladder
from ..memory.out_of_memory import is_out_of_memory, out_of_memory_advice, out_of_memory_forgiven
from ..method.learning_rate import SCHEDULES, cool_down, warm_up
from .backend import Backend
from .caption_windows import caption_warnings
from .config import TrainConfig
from .determinism import NondeterministicOperations
from .evaluation_set import draw_evaluation_set
from .gradients import clip_gradient, compute_gradient
from .problems import gradient_problem
from .record import TrainRecord
from .result import WINDOW, candidate_states, plan_cool_down, window_ends
from .samples import draw_samples
from .state import RunState, start_run


@dataclass(frozen=True)
class TrainStep:
    """One turn of the loop. The first one comes before an update; its loss is NaN.

    learning_rate: of this update as TrainConfig counts it, for a vocabulary of SD1's scale. state: goes on changing
    with the run; `state.copy()` takes it out.
    """

    index: int
    loss: float
    learning_rate: float
    state: RunState

    @property
    def record(self) -> TrainRecord:
        return self.state.record

    @property
    def is_first(self) -> bool:
        """Whether this turn comes before an update."""
        return math.isnan(self.loss)


Steps = Generator[TrainStep, None, None]


def _ends_with_a_result(loop: Callable[..., Steps]) -> Callable[..., Steps]:
    """After the loop the states that may be returned are compared, also where memory has run out in the middle of it:
    then the run ends with a sentence and keeps what it has learned."""

    @functools.wraps(loop)
    def train(
        backend: Backend, dataset: TrainingSet, config: TrainConfig, state: RunState | None = None
    ) -> Generator[TrainStep, None, None]:
        state = start_run(backend, config) if state is None else state
        try:
            yield from loop(backend, dataset, config, state)
        except Exception as error:
            if not state.record.losses or not is_out_of_memory(error):
                raise
            advice = out_of_memory_advice(config.batch_size, config.resolution, config.gradient_checkpointing)
            state.record.stopped = f"There was no memory for step {state.step + 1}. {advice}"
            state.record.last_good = state.step
        compare_candidates(backend, dataset, config, state)

    return train


@_ends_with_a_result
def train(backend: Backend, dataset: TrainingSet, config: TrainConfig, state: RunState) -> Steps:
    """Yields a TrainStep before the first and after every update; the last one's record holds the result.

    state: where to go on, such as a copy from an earlier run or what `start_run` makes of an embedding; by default the
    start that `config` asks for. The run is bit for bit what it would have been without the break. From a state with
    more updates than `config.steps` those beyond are taken back, and the record is that of the shorter run.

    A loss or gradient that is not finite, a gradient that is exactly zero, or memory that no longer suffices ends the
    run: the vectors from before are kept, and `record.stopped` gives the reason. Raises ValueError for settings that
    do not fit the model, and the out-of-memory error (`is_out_of_memory`) before anything was learned.
    """
    if state.step > config.steps:
        state.go_back(config.steps)
    record, words = state.record, {config.placeholder: state.vectors}
    record.stopped = record.last_good = None  # how an earlier part of the run ended, which goes on now
    record.candidate_losses.clear()
    # Now and not when such a caption happens to be drawn: what was learned until then would be lost.
    record.warnings = caption_warnings(backend, dataset.captions.all(), config)
    evaluation_set = draw_evaluation_set(backend, dataset, config)
    ladder = Ladder(backend, config.batch_size, state.parts, config.gradient_checkpointing != "off")
    nondeterministic = NondeterministicOperations(record.nondeterministic)
    if config.gradient_checkpointing == "on":
        backend.save_memory()
    with nondeterministic.collected():
        if not record.trajectory:
            state.keep_vectors()
            record.sample_losses[0] = ladder.run(evaluation_set.losses, backend, state.vectors)
        for step, losses in record.sample_losses.items():
            if len(losses) != len(evaluation_set.samples.captions):  # of a run with fewer steps, which goes on now
                record.sample_losses[step] = ladder.run(evaluation_set.losses, backend, record.trajectory[step])
    yield TrainStep(state.step, math.nan, 0.0, state)
    while state.step < state.last_step(config):
        generator, loss_scale = state.draw_from()
        samples = draw_samples(backend.schedule, dataset, config, generator)
        with nondeterministic.collected():
            loss = compute_gradient(backend, samples, words, loss_scale, ladder)
        if problem := gradient_problem(state, loss):
            record.stopped, record.last_good = problem
            break
        if config.gradient_clip:
            clip_gradient(state.vectors, backend.encoders, config.gradient_clip)
        learning_rate = config.learning_rate * learning_rate_factor(config, state.step + 1, state.cool_down)
        state.update(loss, learning_rate, ladder, generator, loss_scale)
        with out_of_memory_forgiven(), nondeterministic.collected():  # the next update will say so, if there is one
            if config.evaluate_every and state.step % config.evaluate_every == 0:
                record.sample_losses[state.step] = ladder.run(evaluation_set.losses, backend, state.vectors)
            if window_ends(config, state.step) and state.cool_down is None:
                window = record.mean_vectors(range(state.step + 1 - WINDOW, state.step + 1))
                losses = ladder.run(evaluation_set.losses, backend, window)
                state.cool_down = plan_cool_down(config, state.step, state.window_losses, losses)
                state.window_losses = losses
        yield TrainStep(state.step, loss, learning_rate, state)
    if state.cool_down is not None and record.stopped is None:
        record.stopped = f"The loss on the fixed evaluation set no longer fell after step {state.cool_down[0] - 1}."


def compare_candidates(backend: Backend, dataset: TrainingSet, config: TrainConfig, state: RunState) -> None:
    """Looks at the fixed evaluation set with each of the vectors that the run may return (result.py). Where there is no
    memory for that, the run returns the mean."""
    evaluation_set = draw_evaluation_set(backend, dataset, config)
    ladder = Ladder(backend, config.batch_size, state.parts, config.gradient_checkpointing != "off")
    with out_of_memory_forgiven(), NondeterministicOperations(state.record.nondeterministic).collected():
        for steps in dict.fromkeys(candidate_states(state.record.last_state)):  # after few updates they are one
            vectors = state.record.mean_vectors(steps)
            state.record.candidate_losses[steps] = ladder.run(evaluation_set.losses, backend, vectors)


def learning_rate_factor(config: TrainConfig, step: int, cooling: tuple[int, int] | None = None) -> float:
    """Share of the full learning rate at update `step` (1 to steps): warm-up, schedule, and cool-down if there is one.

    cooling: first and last update of the cool-down.
    """
    factor = warm_up(step, config.warmup_steps) * SCHEDULES[config.schedule](step, config.steps)
    if cooling is None:
        return factor
    first, last = cooling
    return min(factor, learning_rate_factor(config, first - 1) * cool_down(step, first, last))
