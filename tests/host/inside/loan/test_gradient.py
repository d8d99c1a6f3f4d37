"""The gradient that training follows, through the host's own text encoder and UNet."""

from __future__ import annotations

import pytest
import torch
from in_host import REFERENCE, plugin
from loss_problem import Float64, Problem


@pytest.fixture(params=["v_prediction", "epsilon"])
def lent(request, monkeypatch):
    """A backend with its models on loan, for both targets."""
    demo = plugin("nodes.host.models.demo")
    if request.param == "epsilon":
        from comfy.model_base import ModelType

        monkeypatch.setattr(demo.DemoSD, "model_type", lambda *_: ModelType.EPS)
    with torch.inference_mode():
        models = demo.load_demo_models(REFERENCE / "demo.safetensors")
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(*models)
        assert backend.schedule.prediction == request.param
        with backend.lent(3, backend.latent_shape(64)) as lent:
            yield lent


@pytest.mark.parametrize("num_vectors", [1, 2])
def test_against_central_differences(lent, num_vectors):
    with Float64():
        for module in (lent.models.patcher.model, lent.models.clip.cond_stage_model):
            module.double()
        problem = Problem(lent, torch.float64, num_vectors)
        gradient = problem.gradient()
        assert gradient.dtype == torch.float64
        # Whole directions: the gradient's own, random ones, and single coordinates.
        directions = torch.randn(4, len(gradient), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        single = torch.eye(len(gradient), dtype=torch.float64)[:: len(gradient) // 6]
        for direction in [gradient, *directions, *single]:
            direction = direction / direction.norm()
            told = float(gradient @ direction)
            assert abs(problem.difference(direction) - told) < 1e-6 * max(
                abs(told), float(gradient.norm()) / len(gradient) ** 0.5
            )


def test_in_the_hosts_own_precision(lent):
    own = Problem(lent, torch.float32, 2).gradient()
    assert own.dtype == torch.float32
    with Float64():
        for module in (lent.models.patcher.model, lent.models.clip.cond_stage_model):
            module.double()
        exact = Problem(lent, torch.float64, 2).gradient()
    assert torch.cosine_similarity(own.double(), exact, dim=0) >= 0.9999
    assert (own - exact).norm() / exact.norm() < 1e-3


def test_two_graphs_are_one_graph(lent):
    problem = Problem(lent, torch.float32, 2)
    assert torch.equal(problem.gradient(), problem.one_graph_gradient())


def test_captions_of_different_length_train_together(lent):
    """One chunk beside three: the model sees the short one three times, as the host's sampler does with a batch."""
    long = "a photo of S* " + "red " * 70
    rows = torch.randn(1, 128).mul_(0.05)
    problem = Problem(lent, torch.float32)

    def gradient(captions, places):
        rows_now = rows.clone().requires_grad_(True)
        encoded = lent.encode(captions, {"S*": {"clip_l": rows_now}}, differentiable=True)
        samples = plugin("ti_engine.training.samples")
        given = samples.Samples(*(t[places] for t in (problem.latents, problem.noise, problem.sigma)), captions)
        plugin("ti_engine.training.loss").sample_losses(lent, given, encoded.cond).sum().backward()
        encoded.backward()
        return rows_now.grad

    together = gradient(["a photo of S*", long], [0, 1])
    apart = gradient(["a photo of S*"], [0]) + gradient([long], [1])
    torch.testing.assert_close(together, apart, rtol=1e-3, atol=1e-6)
