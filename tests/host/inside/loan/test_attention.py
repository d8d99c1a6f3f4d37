"""Attention in training: torch's fused kernel, forward and backward, in all networks of every family."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from in_host import plugin
from small_families import SMALL, build
from torch.utils._python_dispatch import TorchDispatchMode

FUSED = "_scaled_dot_product_flash_attention_for_cpu"
HALF = ["SD1", "SDXL", "SD3", "Flux dev", "PixArt sigma", "Lumina 2", "Qwen-Image"]


class Attention(TorchDispatchMode):
    """Counts runs of torch's attention by name, and of softmax over scores between tokens written out.

    HiDream chooses its experts with a softmax too, of two dimensions.
    """

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        if name.startswith("_scaled_dot_product") or ("softmax" in name and args[0].ndim > 2):
            self.count[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("family", "dtype"),
    [*((name, torch.float32) for name in SMALL), *((name, torch.bfloat16) for name in HALF if name in SMALL)],
)
def test_attention_is_fused(family, dtype):
    with torch.inference_mode():
        models = build(family, dtype)
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(*models)
        vectors = {key: torch.randn(1, info.width).requires_grad_(True) for key, info in backend.encoders.items()}
        side = models.vae.side
        latents = torch.randn(2, *backend.latent_shape(64)[:-2], side, side)
        with backend.lent(2, latents.shape[1:], "off") as lent:
            with Attention() as encoders:
                encoded = lent.encode(["a photo of S*", "a red S*"], {"S*": vectors}, differentiable=True)
            with Attention() as denoiser:
                lent.denoise(latents, backend.schedule.sigmas[[3, 5]], encoded.cond).sum().backward()
            with Attention() as back:
                encoded.backward()
    assert set(encoders.count) == {FUSED}
    assert set(denoiser.count) == {FUSED, f"{FUSED}_backward"}
    assert set(back.count) == {f"{FUSED}_backward"}


@pytest.mark.parametrize(("family", "passes"), [("SD1", 1), ("SDXL", 2), ("Flux dev", 2), ("Qwen-Image", 2)])
def test_a_caption_is_encoded_once(family, passes, monkeypatch):
    """In a batch of four with two captions; where one encoder is all that the model reads, both in one pass."""
    with torch.inference_mode():
        models = build(family)
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(*models)
        vectors = {key: torch.randn(1, info.width).requires_grad_(True) for key, info in backend.encoders.items()}
        encoder, calls = models.clip.cond_stage_model, []
        encode = encoder.encode_token_weights
        monkeypatch.setattr(encoder, "encode_token_weights", lambda tokens: calls.append(1) or encode(tokens))
        with backend.lent(2, backend.latent_shape(64), "off") as lent:
            calls.clear()
            encoded = lent.encode(["S*", "a red S*", "S*", "S*"], {"S*": vectors}, differentiable=True)
            for entry in encoded.cond.distinct:
                entry["cond"].grad = torch.ones_like(entry["cond"])
            encoded.backward()
    assert encoded.cond.index == [0, 1, 0, 0] and len(encoded.cond.distinct) == 2
    assert len(calls) == passes
    assert all(bool(rows.grad.any()) for key, rows in vectors.items() if family != "Flux dev" or key == "t5xxl")
