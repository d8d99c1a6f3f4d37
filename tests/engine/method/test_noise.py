import pytest
import torch
from toy import toy_schedule

from ti_engine import NoiseSchedule
from ti_engine.method.noise import draw_sigmas, spread_sigmas

COUNT = 20
SCHEDULE = NoiseSchedule(torch.arange(1, COUNT + 1).float(), "epsilon")  # sigma names its step


@pytest.mark.parametrize("bias", [0.0, 1.0, 2.5])
def test_steps_are_drawn_in_proportion_to_their_power(bias):
    draws = 5000
    generator = torch.Generator().manual_seed(1)
    sigmas = torch.cat([draw_sigmas(SCHEDULE, 1, bias, generator) for _ in range(draws)])
    edges = torch.arange(COUNT + 1).double() / COUNT
    share = edges[1:] ** (1 + bias) - edges[:-1] ** (1 + bias)  # the density t ** bias, integrated over each step
    counts = torch.bincount(sigmas.long() - 1, minlength=COUNT).double()
    likely = share * draws >= 5
    chi_square = ((counts - share * draws) ** 2 / (share * draws))[likely].sum()
    assert float(chi_square) < 45  # 19 degrees of freedom, p = 0.0007


def test_a_batch_hits_every_part_of_the_distribution_once():
    generator = torch.Generator().manual_seed(2)
    for _ in range(50):
        sigmas = draw_sigmas(SCHEDULE, COUNT, 0.0, generator)
        assert sigmas.sort().values.tolist() == SCHEDULE.sigmas.tolist()


def test_batches_of_many_sizes_stay_inside_the_schedule():
    generator = torch.Generator().manual_seed(3)
    for count in (1, 2, 7, 4096):
        sigmas = draw_sigmas(SCHEDULE, count, 1.0, generator)
        assert sigmas.shape == (count,)
        assert set(sigmas.tolist()) <= set(SCHEDULE.sigmas.tolist())


def test_the_fixed_levels_are_the_middles_and_always_the_same():
    assert spread_sigmas(SCHEDULE, 4, 0.0).tolist() == [3, 8, 13, 18]
    assert spread_sigmas(SCHEDULE, 1, 1.0).tolist() == [15]  # median of a density that rises with the step


def test_drawing_uses_the_generator_it_is_given_alone():
    before = torch.get_rng_state()
    first = draw_sigmas(SCHEDULE, 8, 1.0, torch.Generator().manual_seed(4))
    again = draw_sigmas(SCHEDULE, 8, 1.0, torch.Generator().manual_seed(4))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)


def test_noise_is_added_in_the_schedules_own_way():
    latents, noise = torch.full((2, 1, 1, 1), 3.0), torch.full((2, 1, 1, 1), 10.0)
    sigma = torch.tensor([0.25, 1.0])
    assert toy_schedule("epsilon").noisy_latents(latents, noise, sigma).flatten().tolist() == [5.5, 13]
    assert toy_schedule("flow").noisy_latents(latents, noise, sigma).flatten().tolist() == [4.75, 10]
