"""The gradient that training follows, through the host's own text encoder and UNet."""

from __future__ import annotations

import pytest
import torch
from in_host import REFERENCE, plugin
from torch.overrides import TorchFunctionMode

CAPTIONS = ["a photo of S*", "a photo of S* and S* , red", "a photo of S*"]


class Float64(TorchFunctionMode):
    """Computes in float64 where the host asks for float32, so that finite differences have digits to spare."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def swap(x):
            return torch.float64 if x is torch.float32 else x

        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*map(swap, args), **{k: swap(v) for k, v in (kwargs or {}).items()})


@pytest.fixture(params=["v_prediction", "epsilon"])
def lent(request, monkeypatch):
    """A backend with its models on loan, for both targets."""
    demo = plugin("nodes.host.demo")
    if request.param == "epsilon":
        from comfy.model_base import ModelType

        monkeypatch.setattr(demo.DemoSD, "model_type", lambda *_: ModelType.EPS)
    with torch.inference_mode():
        models = demo.load_demo_models(REFERENCE / "demo.safetensors")
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(*models)
        assert backend.schedule.prediction == request.param
        with backend.lent(3, 64):
            yield backend


class Problem:
    """The loss of a fixed batch as a function of the vectors."""

    def __init__(self, backend, num_vectors, dtype):
        generator = torch.Generator().manual_seed(2)
        self.backend = backend
        self.latents, self.noise = torch.randn(2, 3, 4, 8, 8, generator=generator, dtype=torch.float64).to(dtype)
        self.sigma = backend.schedule.sigmas[[150, 500, 850]].to(dtype)
        self.start = (torch.randn(num_vectors, 128, generator=generator, dtype=torch.float64) * 0.05).to(dtype)

    def loss(self, rows, cond=None):
        if cond is None:
            cond = self.backend.encode(CAPTIONS, "S*", {"clip_l": rows}, differentiable=False).cond
        return plugin("ti_engine.loss").diffusion_loss(self.backend, self.latents, self.noise, self.sigma, cond).sum()

    def gradient(self):
        rows = self.start.clone().requires_grad_(True)
        encoded = self.backend.encode(CAPTIONS, "S*", {"clip_l": rows}, differentiable=True)
        self.loss(rows, encoded.cond).backward()
        encoded.backward()
        return rows.grad

    def one_graph_gradient(self):
        """As the formula says it, without cutting the graph in two."""
        encoding = plugin("nodes.host.caption_encoding")
        rows = self.start.clone().requires_grad_(True)
        encoded = self.backend.encode(CAPTIONS, "S*", {"clip_l": rows}, differentiable=True)
        self.loss(rows, encoding.Conditioning(encoded.encoded, encoded.cond.index)).backward()
        return rows.grad


@pytest.mark.parametrize("num_vectors", [1, 2])
def test_against_central_differences(lent, num_vectors):
    with Float64():
        for module in (lent._patcher.model, lent._clip.cond_stage_model):
            module.double()
        problem = Problem(lent, num_vectors, torch.float64)
        gradient = problem.gradient().flatten()
        assert gradient.dtype == torch.float64
        step = 1e-4
        # Whole directions: the gradient's own, random ones, and single coordinates.
        directions = torch.randn(4, len(gradient), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        single = torch.eye(len(gradient), dtype=torch.float64)[:: len(gradient) // 6]
        for direction in [gradient, *directions, *single]:
            direction = (direction / direction.norm()).view_as(problem.start)
            with torch.no_grad():
                above, below = (problem.loss(problem.start + s * step * direction) for s in (1, -1))
            measured = float((above - below) / (2 * step))
            told = float(gradient @ direction.flatten())
            assert abs(measured - told) < 1e-6 * max(abs(told), float(gradient.norm()) / len(gradient) ** 0.5)


def test_in_the_hosts_own_precision(lent):
    own = Problem(lent, 2, torch.float32).gradient()
    assert own.dtype == torch.float32
    with Float64():
        for module in (lent._patcher.model, lent._clip.cond_stage_model):
            module.double()
        exact = Problem(lent, 2, torch.float64).gradient()
    assert torch.cosine_similarity(own.double().flatten(), exact.flatten(), dim=0) >= 0.9999
    assert (own - exact).norm() / exact.norm() < 1e-3


def test_two_graphs_are_one_graph(lent):
    problem = Problem(lent, 2, torch.float32)
    assert torch.equal(problem.gradient(), problem.one_graph_gradient())


def test_captions_of_different_length_train_together(lent):
    """One chunk beside three: the model sees the short one three times, as the host's sampler does with a batch."""
    long = "a photo of S* " + "red " * 70
    rows = torch.randn(1, 128).mul_(0.05)
    problem = Problem(lent, 1, torch.float32)

    def gradient(captions, places):
        rows_now = rows.clone().requires_grad_(True)
        encoded = lent.encode(captions, "S*", {"clip_l": rows_now}, differentiable=True)
        given = (t[places] for t in (problem.latents, problem.noise, problem.sigma))
        plugin("ti_engine.loss").diffusion_loss(lent, *given, encoded.cond).sum().backward()
        encoded.backward()
        return rows_now.grad

    together = gradient(["a photo of S*", long], [0, 1])
    apart = gradient(["a photo of S*"], [0]) + gradient([long], [1])
    torch.testing.assert_close(together, apart, rtol=1e-3, atol=1e-6)
