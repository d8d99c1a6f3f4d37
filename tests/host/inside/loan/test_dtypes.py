"""Models in the precisions that people load them in: the gradient of a run against float64 with the same weights."""

from __future__ import annotations

import comfy.ops
import pytest
import torch
from in_host import plugin
from loss_problem import CAPTIONS, Problem, in_float64
from small_families import SMALL, build
from small_quantised import FP8, all_parts, build_quantised
from torch.utils._python_dispatch import TorchDispatchMode

HALF = {
    "float16": (torch.float16, None),
    "bfloat16": (torch.bfloat16, None),
    "float16 weights": (torch.float16, torch.float32),
    "fp8 weights": (torch.float8_e4m3fn, torch.bfloat16),
}
FAMILIES = ["SD2", "SDXL", "SD3", "Flux dev"]


def backend_of(models):
    return plugin("nodes.host.backend").HostBackend(*models)


def gradient_of_a_run(models, how):
    """Of the sum over the samples, as the engine computes it, scale of the loss included."""
    gradients = plugin("ti_engine.training.gradients")
    backend = backend_of(models)
    with backend.lent(3, backend.latent_shape(64), how) as lent:
        problem = Problem(lent, torch.float32)
        vectors = {key: rows.clone().requires_grad_(True) for key, rows in problem.vectors(problem.start).items()}
        samples = problem.samples()
        if how == "on":
            lent.save_memory()
        scale = gradients.LossScale(lent.loss_scale, lent.loss_scale)
        ladder = plugin("ti_engine.memory.ladder").Ladder(lent, 3, 1, how != "off")
        gradients.compute_gradient(lent, samples, {"S*": vectors}, scale, ladder)
    return len(CAPTIONS) * torch.cat([rows.grad.flatten() for rows in vectors.values()])


def exact_gradient(models, monkeypatch):
    backend = backend_of(models)
    with backend.lent(3, backend.latent_shape(64), "off") as lent, in_float64(lent, monkeypatch):
        return Problem(lent, torch.float64).gradient()


def share_weights(wide, narrow):
    """Those of `wide` in both, rounded as `narrow` holds them."""
    for a, b in zip([*wide.parameters(), *wide.buffers()], [*narrow.parameters(), *narrow.buffers()], strict=True):
        b.copy_(a)
        a.copy_(b.to(a.dtype))


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("family", [name for name in FAMILIES if name in SMALL])
def test_gradient_in_half_precision(family, precision, monkeypatch):
    dtype, computes_in = HALF[precision]
    with torch.inference_mode():
        exact, models = build(family), build(family, dtype, computes_in)
        share_weights(exact.model.model.diffusion_model, models.model.model.diffusion_model)
        share_weights(exact.clip.cond_stage_model, models.clip.cond_stage_model)
    with torch.inference_mode(False):
        found = gradient_of_a_run(models, "on")
        wanted = exact_gradient(exact, monkeypatch)
    assert torch.cosine_similarity(found.double(), wanted, dim=0) >= 0.98
    assert float(found.norm() / wanted.norm()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("multiplies_in_fp8", [False, True])
def test_gradient_through_quantised_weights(multiplies_in_fp8, monkeypatch):
    """Scaled fp8 in the host's own layout, T5's too, also where the card would multiply in it."""
    if multiplies_in_fp8:
        monkeypatch.setattr(comfy.model_management, "supports_fp8_compute", lambda device=None: True)
    with torch.inference_mode():
        exact, models = build("Flux dev"), build_quantised("Flux dev", "scaled fp8", monkeypatch)
        for wide, narrow in zip(networks(exact), networks(models), strict=True):
            for name, module in wide.named_modules():
                for key, parameter in module.named_parameters(recurse=False):
                    parameter.copy_(dequantised(narrow.get_submodule(name), key))
    with torch.inference_mode(False):
        backend = backend_of(models)
        with backend.lent(3, backend.latent_shape(64)):
            pass  # the host wraps such weights anew when it loads them
        before = [dict(root.named_parameters()) for root in networks(models)]
        assert all(any(part.dtype == FP8 for part in all_parts(root)) for root in networks(models))
        found = gradient_of_a_run(models, "auto")
        wanted = exact_gradient(exact, monkeypatch)
    for root, weights in zip(networks(models), before, strict=True):
        assert all(weight is weights[name] for name, weight in root.named_parameters())
    assert torch.cosine_similarity(found.double(), wanted, dim=0) >= 0.98
    layers = [m for m in models.model.model.modules() if hasattr(m, "_full_precision_mm") and hasattr(m, "layout_type")]
    assert all(layer._full_precision_mm is not multiplies_in_fp8 for layer in layers)  # as it was
    assert bool(layers) is hasattr(comfy.ops, "mixed_precision_ops")


def networks(models):
    return models.model.model.diffusion_model, models.clip.cond_stage_model


def dequantised(layer, key):
    parameter = getattr(layer, key)
    if plugin("nodes.host.models.quantised").is_quantised(parameter):
        return parameter.dequantize()
    return parameter.float() * getattr(layer, "scale_weight", 1) if key == "weight" else parameter


class _Copies(TorchDispatchMode):
    """The shapes of what is cloned."""

    def __init__(self):
        super().__init__()
        self.shapes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.clone.default:
            self.shapes |= {tuple(args[0].shape), tuple(args[0].shape[::-1])}
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", ["SD1", "SD3.5 with T5", "Qwen-Image"])
def test_weights_that_the_host_casts_are_not_copied_again(family):
    models = build(family)
    encoders = models.clip.cond_stage_model.to(torch.float16)
    backend = backend_of(models)
    weights = {tuple(m.weight.shape) for m in encoders.modules() if isinstance(m, torch.nn.Linear)}
    with torch.inference_mode(False), backend.lent(1, [4, 8, 8], "off") as lent, _Copies() as copies:
        vectors = {key: torch.ones(1, info.width, requires_grad=True) for key, info in backend.encoders.items()}
        lent.encode(["a photo of S*"], {"S*": vectors}, differentiable=True)
    assert copies.shapes and not weights & copies.shapes
