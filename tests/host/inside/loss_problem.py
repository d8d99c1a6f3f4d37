"""The loss of training as a function of the vectors: its gradient, and what finite differences say of it."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from in_host import plugin
from torch.overrides import TorchFunctionMode

CAPTIONS = ["a photo of S*", "a photo of the cool S* and S*", "a photo of S*"]


class Float64(TorchFunctionMode):
    """Computes in float64 where the host asks for float32, so that finite differences have digits to spare."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def swap(x):
            return torch.float64 if x is torch.float32 else x

        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*map(swap, args), **{k: swap(v) for k, v in (kwargs or {}).items()})


@contextmanager
def in_float64(lent, monkeypatch):
    """Everything in float64, also what a backward computes anew: there no mode from outside is on."""
    patcher = lent.models.patcher
    for module in (patcher.model, lent.models.clip.cond_stage_model):
        module.double()
    apply_model = patcher.model.apply_model

    def exact(*args, **kwargs):
        with Float64():
            return apply_model(*args, **kwargs)

    monkeypatch.setattr(patcher.model, "apply_model", exact)
    torch.set_default_dtype(torch.float64)
    try:
        with Float64():
            yield
    finally:
        torch.set_default_dtype(torch.float32)


class Problem:
    """The loss of a fixed batch as a function of the vectors of all encoders, end to end in one tensor."""

    def __init__(self, backend, dtype, num_vectors=1):
        generator = torch.Generator().manual_seed(2)
        self.backend, self.dtype = backend, dtype
        family = backend.models.family
        frames, side = [1] if family.film else [], getattr(backend.models.vae, "side", 8)
        channels, more = family.latent_channels, family.inpainting_channels
        shape = (3, channels + more, *frames, side, side)
        latents, noise = torch.randn(2, *shape, generator=generator, dtype=torch.float64).to(dtype)
        self.latents, self.noise = latents[:, :channels], noise[:, :channels]
        self.inpainting = latents[:, channels:] if more else None
        levels = len(backend.schedule.sigmas)
        self.sigma = backend.schedule.sigmas[[levels // 7, levels // 2, levels * 6 // 7]].to(dtype)
        self.sizes = {key: num_vectors * info.width for key, info in backend.encoders.items()}
        self.num_vectors = num_vectors
        scale = torch.cat([torch.full((num_vectors * i.width,), i.rms) for i in backend.encoders.values()])
        self.start = (torch.randn(len(scale), generator=generator, dtype=torch.float64) * scale).to(dtype)

    def vectors(self, flat):
        parts = zip(self.sizes, flat.split(list(self.sizes.values())), strict=True)
        return {key: part.view(self.num_vectors, -1) for key, part in parts}

    def loss(self, cond):
        return plugin("ti_engine.training.loss").sample_losses(self.backend, self.samples(), cond).sum()

    def samples(self):
        """The fixed batch as the engine has it."""
        make = plugin("ti_engine.training.samples").Samples
        return make(self.latents, self.noise, self.sigma, CAPTIONS, self.inpainting)

    def at(self, flat):
        return self.loss(self.backend.encode(CAPTIONS, {"S*": self.vectors(flat)}, differentiable=False).cond)

    def gradient(self):
        flat = self.start.clone().requires_grad_(True)
        encoded = self.backend.encode(CAPTIONS, {"S*": self.vectors(flat)}, differentiable=True)
        self.loss(encoded.cond).backward()
        encoded.backward()
        return flat.grad

    def one_graph_gradient(self):
        """As the formula says it, without cutting the graph in two."""
        flat = self.start.clone().requires_grad_(True)
        encoded = self.backend.encode(CAPTIONS, {"S*": self.vectors(flat)}, differentiable=True)
        output_of = {id(leaf): output for output, leaf in encoded.outputs}
        distinct = [{name: output_of.get(id(v), v) for name, v in entry.items()} for entry in encoded.cond.distinct]
        whole = plugin("nodes.host.text.caption_encoding").Conditioning(distinct, encoded.cond.index)
        self.loss(whole).backward()
        return flat.grad

    def difference(self, direction):
        """The loss's slope along `direction` [n], of length 1, by central differences.

        The step is small enough for both sides to lie on the same side of the kinks that some networks have.
        """
        step = 1e-6 * float(self.start.norm())
        with torch.no_grad():
            above, below = (self.at(self.start + s * step * direction) for s in (1, -1))
        return float((above - below) / (2 * step))
