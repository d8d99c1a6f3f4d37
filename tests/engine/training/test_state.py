"""A run that goes on from a copied state is bit for bit the run that was never broken."""

import itertools

import pytest
import torch
from toy import ToyBackend, noisy_set, run, same, toy_config

from ti_engine import RunState, TrainConfig, TrainRecord, start_run, train
from ti_engine.training.gradients import LossScale

TWO_ENCODERS = {"clip_l": 6, "clip_g": 5}


def state_after(config: TrainConfig, updates: int, backend: ToyBackend) -> RunState:
    """Taken out of a run while it goes on, which it does for some steps more."""
    steps = train(backend, noisy_set(backend), config)
    state = next(step.state for step in steps if step.index == updates).copy()
    list(itertools.islice(steps, 3))
    return state


def go_on(config: TrainConfig, state: RunState, backend: ToyBackend) -> TrainRecord:
    *_, last = train(backend, noisy_set(backend), config, state)
    return last.record


@pytest.mark.parametrize("updates", [0, 1, 13, 29, 30])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_rest_of_a_run_is_the_same_bit_for_bit(updates, schedule):
    config = toy_config(schedule=schedule, num_vectors=2, evaluate_every=7, gradient_clip=0.05)
    whole = run(config, ToyBackend(widths=TWO_ENCODERS))
    state = state_after(config, updates, ToyBackend(widths=TWO_ENCODERS))
    resumed = go_on(config, state, ToyBackend(widths=TWO_ENCODERS))
    assert same(whole, resumed)
    assert whole.evaluations == resumed.evaluations
    assert whole.result_loss == resumed.result_loss and whole.returned == resumed.returned


@pytest.mark.parametrize("updates", [150, 200, 230])
def test_a_cool_down_goes_on_where_it_was(updates):
    config = toy_config(steps=1000, learning_rate=0.02, schedule="constant", evaluate_every=0)
    whole = run(config, ToyBackend())
    assert 250 <= len(whole.losses) < 1000
    assert same(whole, go_on(config, state_after(config, updates, ToyBackend()), ToyBackend()))


def test_a_loss_scale_that_fell_stays_where_it_was():
    config = toy_config()
    whole = run(config, ToyBackend(loss_scale=2.0**140))
    state = state_after(config, 10, ToyBackend(loss_scale=2.0**140))
    assert state.loss_scale.value < 2.0**140
    assert same(whole, go_on(config, state, ToyBackend(loss_scale=2.0**140)))


def test_a_copy_shares_no_memory_with_the_run():
    backend, config = ToyBackend(), toy_config()
    state = start_run(backend, config)
    *_, last = train(backend, noisy_set(backend), config, state)
    copied = last.state.copy()
    before = copied.vectors["clip_l"].detach().clone()
    last.state.vectors["clip_l"].data += 1
    last.state.record.trajectory[30]["clip_l"] += 1
    last.state.optimizer.state[last.state.vectors["clip_l"]]["exp_avg"] += 1
    assert torch.equal(copied.vectors["clip_l"], before)
    assert torch.equal(copied.record.trajectory[30]["clip_l"], before)
    (moments,) = copied.optimizer.state.values()
    assert not torch.equal(moments["exp_avg"], last.state.optimizer.state[last.state.vectors["clip_l"]]["exp_avg"])


def test_a_loss_scale_grows_back_up_to_where_it_started():
    backend = ToyBackend(loss_scale=2.0**140)
    config = toy_config(steps=400, early_stop=False)
    scales = [step.state.loss_scale.value for step in train(backend, noisy_set(backend), config)]
    assert min(scales) < 2.0**130
    assert any(later > before for before, later in itertools.pairwise(scales[1:]))
    assert max(scales[1:]) < 2.0**140


def test_a_loss_scale_never_grows_beyond_its_start():
    scale = LossScale(2.0**10, 2.0**10)
    scale.lower()
    assert scale.value == 2.0**8
    for _ in range(49):
        scale.count_good_update()
    assert scale.value == 2.0**8
    for _ in range(1000):
        scale.count_good_update()
    assert scale.value == 2.0**10


def test_vectors_without_a_gradient_are_known_by_encoder_and_row():
    backend = ToyBackend(widths=TWO_ENCODERS)
    backend.projection[6:] = 0  # the denoiser does not read clip_g
    record = run(toy_config(num_vectors=2), backend)
    assert record.unlearned() == {"clip_g": [0, 1]}
    assert run(toy_config(num_vectors=2), ToyBackend(widths=TWO_ENCODERS)).unlearned() == {}


def test_a_run_that_trouble_ended_goes_on_as_if_nothing_had_been():
    config = toy_config()
    whole = run(config, ToyBackend())
    state = state_after(config, 13, ToyBackend())
    state.record.stopped, state.record.last_good = "There was no memory for step 14.", 13
    state.record.candidate_losses[range(13, 14)] = torch.zeros(24)
    resumed = go_on(config, state, ToyBackend())
    assert same(whole, resumed) and resumed.stopped is None and resumed.returned == whole.returned
    assert resumed.evaluations == whole.evaluations


@pytest.mark.parametrize("trouble", ["memory", "no number"])
def test_an_update_that_trouble_prevents_draws_its_samples_again(trouble: str, monkeypatch: pytest.MonkeyPatch):
    config = toy_config(gradient_checkpointing="off", batch_size=1)
    whole = run(config, ToyBackend(loss_scale=2.0**140))
    backend = ToyBackend(loss_scale=2.0**140)
    state, denoise = start_run(backend, config), backend.denoise

    def fails_in_step_14(noisy: torch.Tensor, sigma: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        if state.step == 13 and trouble == "memory":
            raise MemoryError
        return denoise(noisy, sigma, cond) * (torch.inf if state.step == 13 else 1)

    monkeypatch.setattr(backend, "denoise", lambda noisy, sigma, cond, _=None: fails_in_step_14(noisy, sigma, cond))
    record = go_on(config, state, backend)
    assert len(record.losses) == 13 and record.stopped and "step 14" in record.stopped
    monkeypatch.undo()
    assert same(whole, go_on(config, state, backend))
