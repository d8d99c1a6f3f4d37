"""The host's classes with our weights compute what diffusers and transformers compute with them."""

from __future__ import annotations

import comfy.model_management
import pytest
import torch
from in_host import REFERENCE, plugin
from safetensors.torch import load_file


@pytest.fixture
def reference():
    return load_file(REFERENCE / "reference.safetensors")


def close(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max()) < 2e-5


@torch.inference_mode()
def test_text_encoder(models, reference):
    rows = [[(int(i), 1.0) for i in row] for row in reference["ids"]]
    cond = models.clip.encode_from_tokens({"l": rows})
    assert close(cond.reshape(reference["cond"].shape), reference["cond"])


@torch.inference_mode()
def test_unet(models, reference):
    comfy.model_management.load_models_gpu([models.model])
    unet = models.model.model.diffusion_model
    assert close(
        unet(reference["noisy"], reference["steps"].float(), context=reference["cond"]), reference["prediction"]
    )


def test_target_and_noise_levels(backend, reference):
    """x0 and x_t from the raw prediction, as v-prediction defines them."""
    sigma = backend.schedule.sigmas[reference["steps"]].view(-1, 1, 1, 1)
    noisy = reference["noisy"] * (1 + sigma**2).sqrt()
    want = noisy / (1 + sigma**2) - reference["prediction"] * sigma / (1 + sigma**2).sqrt()
    distinct = [{"cond": one[None]} for one in reference["cond"]]
    cond = plugin("nodes.host.caption_encoding").Conditioning(distinct, list(range(len(distinct))))
    with torch.inference_mode(False), backend.lent(2, 128), torch.no_grad():
        assert close(backend.denoise(noisy, sigma.flatten(), cond), want)
    assert backend.schedule.prediction == "v_prediction" and len(backend.schedule.sigmas) == 1000


@torch.inference_mode()
def test_autoencoder(models, backend, reference):
    latents = models.model.model.process_latent_in(models.vae.encode(reference["pictures"].movedim(1, -1)))
    assert close(latents, reference["latents"])
    with torch.inference_mode(False):
        assert close(backend.encode_pictures(reference["pictures"].clone())[0], reference["latents"])
    raw = models.model.model.process_latent_out(reference["latents"])
    assert close(models.vae.decode(raw).movedim(-1, 1), reference["decoded"])
