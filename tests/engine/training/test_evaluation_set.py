import pytest
import torch
from toy import ToyBackend, hidden_set, hidden_word, noisy_set, toy_config

from ti_engine.method.noise import spread_sigmas
from ti_engine.training.evaluation_set import FEWEST, MOST, draw_evaluation_set
from ti_engine.training.loss import sample_losses


def test_the_set_belongs_to_the_seed():
    backend = ToyBackend()
    first, again, other = (
        draw_evaluation_set(backend, noisy_set(backend), toy_config(seed=s)).samples for s in (1, 1, 2)
    )
    assert torch.equal(first.latents, again.latents)
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.sigma, again.sigma)
    assert first.captions == again.captions
    assert not torch.equal(first.noise, other.noise)


def test_it_holds_every_noise_level_of_the_training_once():
    backend = ToyBackend()
    config = toy_config(high_noise_bias=2.0)
    drawn = draw_evaluation_set(backend, noisy_set(backend), config).samples
    assert len(drawn.captions) == len(drawn.latents) == 24
    assert torch.equal(drawn.sigma.sort().values, spread_sigmas(backend.schedule, 24, 2.0))


@pytest.mark.parametrize("at_once", [1, 3, 8, 64])
def test_its_loss_is_the_mean_over_its_samples_however_it_is_split(at_once):
    backend = ToyBackend(dtype=torch.float64)
    drawn = draw_evaluation_set(backend, noisy_set(backend), toy_config())
    word, all_of_them = hidden_word(backend), drawn.samples
    cond = backend.encode(all_of_them.captions, {"S*": word}, differentiable=False).cond
    expected = sample_losses(backend, all_of_them, cond).mean()
    assert float(drawn.losses(backend, word, at_once).mean()) == pytest.approx(float(expected), rel=1e-12)


def test_looking_changes_nothing_and_leaves_no_gradient():
    backend = ToyBackend()
    drawn = draw_evaluation_set(backend, noisy_set(backend), toy_config())
    word = {key: rows.requires_grad_(True) for key, rows in hidden_word(backend).items()}
    before = torch.get_rng_state()
    assert torch.equal(drawn.losses(backend, word, 4), drawn.losses(backend, word, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(rows.grad is None for rows in word.values())
    assert torch.is_grad_enabled()


def test_the_hidden_word_has_a_lower_loss_than_its_neighbours():
    backend = ToyBackend(dtype=torch.float64)
    drawn = draw_evaluation_set(backend, hidden_set(backend), toy_config())
    word = hidden_word(backend)
    best, step = float(drawn.losses(backend, word, 8).mean()), 0.3 * backend.rms
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        moved = {key: rows + step * torch.randn(rows.shape, generator=generator) for key, rows in word.items()}
        assert float(drawn.losses(backend, moved, 8).mean()) > best


@pytest.mark.parametrize(("steps", "batch_size", "count"), [(10, 1, FEWEST), (30, 8, 24), (5000, 8, MOST)])
def test_its_size_grows_with_the_run(steps, batch_size, count):
    backend = ToyBackend()
    drawn = draw_evaluation_set(backend, noisy_set(backend), toy_config(steps=steps, batch_size=batch_size))
    assert len(drawn.samples.captions) == count
