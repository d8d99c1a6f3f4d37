"""The loss against references that are derived another way: the networks' own targets in DDPM's notation."""

from typing import get_args

import pytest
import torch
from torch import Tensor
from toy import LATENT_SHAPE, ToyBackend

from ti_engine.method.noise import NoiseSchedule
from ti_engine.method.prediction import Prediction
from ti_engine.training.loss import sample_losses
from ti_engine.training.samples import Samples

KINDS = get_args(Prediction)
CAPTIONS = ["a photo of S*", "a rendering of a S*", "S* and S*", "the photo of a clean S*"]


def inputs(backend: ToyBackend) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    latents, noise = torch.randn(2, len(CAPTIONS), *LATENT_SHAPE, generator=generator, dtype=torch.float64)
    levels = backend.schedule.sigmas
    return latents, noise, levels[torch.tensor([0, len(levels) // 3, len(levels) // 2, -1])]


def two_vectors(backend: ToyBackend) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {
        key: torch.randn(2, width, generator=generator, dtype=torch.float64) * backend.rms
        for key, width in backend.widths.items()
    }


@pytest.mark.parametrize("prediction", KINDS)
def test_the_gradient_in_the_vectors_is_that_of_finite_differences(prediction):
    """Two encoders, two vectors, a caption with two uses; through the backend's two halves as the loop does it."""
    backend = ToyBackend(prediction, {"clip_l": 4, "clip_g": 3}, torch.float64)
    latents, noise, sigma = inputs(backend)
    vectors = {key: rows.requires_grad_(True) for key, rows in two_vectors(backend).items()}

    def loss(rows: dict[str, Tensor]) -> Tensor:
        cond = backend.encode(CAPTIONS, {"S*": rows}, differentiable=False).cond
        return sample_losses(backend, Samples(latents, noise, sigma, []), cond).mean()

    encoded = backend.encode(CAPTIONS, {"S*": vectors}, differentiable=True)
    sample_losses(backend, Samples(latents, noise, sigma, []), encoded.cond).mean().backward()
    encoded.backward()

    step = 1e-5 * backend.rms
    for key, rows in vectors.items():
        numeric = torch.zeros_like(rows)
        for i in range(rows.numel()):
            sides = []
            for sign in (1, -1):
                moved = rows.detach().clone()
                moved.view(-1)[i] += sign * step
                sides.append(float(loss({**vectors, key: moved})))
            numeric.view(-1)[i] = (sides[0] - sides[1]) / (2 * step)
        assert rows.grad is not None
        assert float((rows.grad - numeric).norm() / numeric.norm()) < 1e-6


@pytest.mark.parametrize("prediction", KINDS)
def test_the_loss_is_the_squared_error_of_the_networks_own_target(prediction):
    """x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise (Ho et al. 2020); v: Salimans & Ho 2022; rectified flow."""
    backend = ToyBackend(prediction, dtype=torch.float64)
    latents, noise, sigma = inputs(backend)
    cond = backend.encode(CAPTIONS, {"S*": two_vectors(backend)}, differentiable=False).cond

    if prediction == "flow":
        signal, level = 1 - sigma, sigma
    elif prediction == "scaled_flow":
        signal, level = 1 / (1 + sigma), sigma / (1 + sigma)
    else:
        alpha_bar = 1 / (1 + sigma**2)
        signal, level = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    a, b = signal[:, None, None, None], level[:, None, None, None]
    target = {"epsilon": noise, "v_prediction": a * noise - b * latents, "sample": latents, "flow": noise - latents}
    target["scaled_flow"] = target["flow"]
    answer = backend.predict(a * latents + b * noise, signal, level, cond)
    reference = ((answer - target[prediction]) ** 2).mean(dim=(1, 2, 3))

    loss = sample_losses(backend, Samples(latents, noise, sigma, []), cond)
    assert loss.shape == (len(CAPTIONS),)
    torch.testing.assert_close(loss, reference, rtol=1e-9, atol=1e-12)


def test_inpainting_channels_get_no_noise_and_count_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ToyBackend(dtype=torch.float64)
    latents, noise, sigma = inputs(backend)
    cond = backend.encode(CAPTIONS, {"S*": two_vectors(backend)}, differentiable=False).cond
    without = sample_losses(backend, Samples(latents, noise, sigma, []), cond)
    channels = torch.arange(2 * latents[:, :1].numel(), dtype=torch.float64).view(len(CAPTIONS), 2, *LATENT_SHAPE[1:])
    seen = []

    def denoise(noisy: Tensor, sigma: Tensor, cond: Tensor, inpainting: Tensor | None) -> Tensor:
        seen.append(inpainting)
        return ToyBackend.denoise(backend, noisy, sigma, cond)

    monkeypatch.setattr(backend, "denoise", denoise)
    assert torch.equal(sample_losses(backend, Samples(latents, noise, sigma, [], channels), cond), without)
    assert torch.equal(seen[0], channels)


def test_samples_do_not_mix():
    backend = ToyBackend(dtype=torch.float64)
    latents, noise, sigma = inputs(backend)
    cond = backend.encode(CAPTIONS, {"S*": two_vectors(backend)}, differentiable=False).cond
    samples = Samples(latents, noise, sigma, CAPTIONS)
    together = sample_losses(backend, samples, cond)
    for i in range(len(CAPTIONS)):
        alone = sample_losses(backend, samples.part(slice(i, i + 1), backend.device), cond[i : i + 1])
        torch.testing.assert_close(alone[0], together[i])


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
def test_the_weight_of_v_knows_the_deviation_of_the_data(sigma_data):
    """Karras et al. 2022, table 1: denoised = c_skip noisy + c_out F, so an error of F is that of denoised / c_out."""
    sigma = torch.tensor([0.03, 1.0, 14.6])
    c_out = sigma * sigma_data / (sigma**2 + sigma_data**2).sqrt()
    schedule = NoiseSchedule(sigma, "v_prediction", sigma_data)
    torch.testing.assert_close(schedule.error_weight(sigma), 1 / c_out)


@pytest.mark.parametrize("prediction", KINDS)
def test_level_zero_gives_no_infinity(prediction):
    levels = torch.tensor([0.0, 1.0])
    weight = NoiseSchedule(levels, prediction).error_weight(levels)
    assert bool(weight.isfinite().all())


@pytest.mark.parametrize("prediction", KINDS)
@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
def test_a_perfect_answer_stands_for_the_clean_latents(prediction, sigma_data):
    backend = ToyBackend(prediction, dtype=torch.float64)
    latents, noise, sigma = inputs(backend)
    schedule = NoiseSchedule(backend.schedule.sigmas, prediction, sigma_data)
    noisy = schedule.noisy_latents(latents, noise, sigma)
    target = schedule.target(latents, noise, sigma)
    torch.testing.assert_close(schedule.clean_estimate(target, noisy, sigma), latents, rtol=1e-9, atol=1e-9)
    wrong = schedule.clean_estimate(target + 0.1, noisy, sigma)
    torch.testing.assert_close(schedule.squared_error(wrong, latents, sigma), torch.full_like(sigma, 0.01))
