"""Weights of a kind that another pack brings along, as GGUF loaders do: numbers of one byte, unpacked in every call.

The kind has what makes those peculiar: it cannot be made without its own arguments, tells the unpacked shape, returns
itself where a copy is asked for, and lends its class to whatever is computed with it.
"""

from __future__ import annotations

import comfy.ops
import pytest
import small_families
import torch
from in_host import plugin
from loss_problem import Problem


class Packed(torch.Tensor):
    def __new__(cls, data, *, scale, unpacked_shape):
        return super().__new__(cls, data)

    def __init__(self, data, *, scale, unpacked_shape):
        super().__init__()
        self.scale, self.unpacked_shape = scale, unpacked_shape

    def detach(self):
        return self

    def clone(self):
        return self

    @property
    def shape(self):
        return getattr(self, "unpacked_shape", self.size())

    def unpack(self):
        numbers = self.to(torch.float32).reshape(self.unpacked_shape) * self.scale
        assert isinstance(numbers, Packed)
        return torch.Tensor(numbers)


class Ops(comfy.ops.manual_cast):
    class Linear(comfy.ops.manual_cast.Linear):
        comfy_cast_weights = True

        def forward_comfy_cast_weights(self, input):
            if not isinstance(self.weight, Packed):
                return super().forward_comfy_cast_weights(input)
            bias = None if self.bias is None else self.bias.to(input.dtype)
            return torch.nn.functional.linear(input, self.weight.unpack().to(input.dtype), bias)


def pack(network):
    """Every linear layer of the blocks; the layers then compute with what is left of their weights."""
    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.Linear) and "blocks" in name:
            scale = float(layer.weight.abs().max()) / 127
            data = (layer.weight / scale).round().to(torch.int8).flatten()
            layer.weight = torch.nn.Parameter(
                Packed(data, scale=scale, unpacked_shape=layer.weight.shape), requires_grad=False
            )
            layer.__class__ = Ops.Linear


def unpacked(network):
    """The same numbers as plain weights."""
    for layer in network.modules():
        if isinstance(layer, Ops.Linear):
            layer.weight = torch.nn.Parameter(layer.weight.unpack(), requires_grad=False)


@pytest.mark.parametrize("how", ["off", "on"])
@pytest.mark.parametrize("family", ["SD3", "Flux dev"])
def test_gradient_through_packed_weights(family, how):
    with torch.inference_mode():
        plain, packed = small_families.build(family), small_families.build(family)
        pack(plain.model.model.diffusion_model)
        unpacked(plain.model.model.diffusion_model)
        pack(packed.model.model.diffusion_model)
    before = dict(packed.model.model.named_parameters())
    bits = {name: raw(p).clone() for name, p in before.items()}
    wanted, found = gradient(plain, how), gradient(packed, how)
    assert sum(isinstance(p, Packed) for p in before.values()) > 5 and float(wanted.norm()) > 0
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.norm()))
    for name, parameter in packed.model.model.named_parameters():
        assert parameter is before[name] and torch.equal(raw(parameter), bits[name])


def raw(tensor):
    """Its bytes."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())


def gradient(models, how):
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(*models)
        with backend.lent(3, backend.latent_shape(64), how) as lent:
            return Problem(lent, torch.float32).gradient()
