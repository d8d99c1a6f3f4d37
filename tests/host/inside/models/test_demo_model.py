"""The host's classes with our weights compute what diffusers and transformers compute with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import comfy.model_management
import pytest
import torch
from in_host import REFERENCE, plugin
from safetensors.torch import load_file

import nodes as host_nodes

ROOT = Path(__file__).resolve().parents[4]
HOST = Path(comfy.model_management.__file__).resolve().parents[1]


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
    cond = plugin("nodes.host.text.caption_encoding").Conditioning(distinct, list(range(len(distinct))))
    with torch.inference_mode(False), backend.lent(2, [4, 16, 16]) as lent, torch.no_grad():
        assert close(lent.denoise(noisy, sigma.flatten(), cond), want)
    assert backend.schedule.prediction == "v_prediction" and len(backend.schedule.sigmas) == 1000


@torch.inference_mode()
def test_autoencoder(models, backend, reference):
    latents = models.model.model.process_latent_in(models.vae.encode(reference["pictures"].movedim(1, -1)))
    assert close(latents, reference["latents"])
    with torch.inference_mode(False):
        assert close(backend.encode_pictures(reference["pictures"].clone()).mean, reference["latents"])
    raw = models.model.model.process_latent_out(reference["latents"])
    assert close(models.vae.decode(raw).movedim(-1, 1), reference["decoded"])


@torch.inference_mode()
def test_the_hosts_node_for_inpainting(models):
    picture, mask = torch.rand(1, 128, 128, 3), torch.zeros(1, 128, 128)
    mask[:, 32:96, 32:96] = 1
    (latent,) = host_nodes.VAEEncodeForInpaint().encode(models.vae, picture, mask, 6)
    assert latent["samples"].shape == (1, 4, 16, 16) and bool(latent["noise_mask"].any())
    (text,) = host_nodes.CLIPTextEncode().encode(models.clip, "a photo of a red circle")
    (painted,) = host_nodes.common_ksampler(models.model, 1, 2, 3.0, "euler", "normal", text, text, latent)
    (result,) = host_nodes.VAEDecode().decode(models.vae, painted)
    kept = models.vae.decode(models.vae.encode(picture))
    assert result.shape == (1, 128, 128, 3) and not torch.allclose(result[:, 48:80, 48:80], kept[:, 48:80, 48:80])
    outside = torch.nn.functional.max_pool2d(latent["noise_mask"], 8)[0, 0] == 0
    assert torch.allclose(painted["samples"][..., outside], latent["samples"][..., outside], atol=1e-4)


def test_the_pack_brings_no_heavy_package_into_the_host():
    """What it imports is there already: torch, safetensors, Pillow. A fresh process, because tests import more."""
    script = (
        "import sys; sys.argv = ['main.py', '--cpu']\n"
        "import comfy.options; comfy.options.enable_args_parsing()\n"
        "import asyncio, nodes, comfy.sd, comfy.samplers, comfy_api.latest\n"
        "before = set(sys.modules)\n"
        "assert asyncio.run(nodes.load_custom_node(sys.stdin.readline().strip()))\n"
        "print('NEW', *sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, input=f"{ROOT}\n", cwd=HOST, capture_output=True, text=True, check=True)
    new = next(line for line in run.stdout.splitlines() if line.startswith("NEW")).split()[1:]
    assert not {"diffusers", "transformers", "matplotlib", "pandas", "scipy", "tqdm", "hypothesis"} & set(new), new


def test_the_scale_of_the_vocabulary_does_not_hang_on_a_few_rows(models):
    vocabulary = plugin("nodes.host.models.vocabulary").ClipVocabulary
    clean = vocabulary(models.clip).encoders["clip_l"]
    with torch.inference_mode():
        models.clip.cond_stage_model.clip_l.transformer.get_input_embeddings().weight[:2] *= 1e4
    outlying = vocabulary(models.clip).encoders["clip_l"]
    assert outlying.norm == pytest.approx(clean.norm, rel=0.05) and outlying.rms == pytest.approx(clean.rms, rel=0.05)


def test_both_backends_know_the_same_scale():
    with torch.inference_mode():
        own = plugin("nodes.host.models.demo").load_demo_models()
    info = plugin("nodes.host.models.vocabulary").ClipVocabulary(own.clip).encoders["clip_l"]
    assert info.norm == pytest.approx(0.6517, rel=1e-3) and info.rms == pytest.approx(0.0576, rel=1e-3)
