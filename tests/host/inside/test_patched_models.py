"""The word belongs to what the graph has loaded: LoRA, merged weights, another sampling, clip skip."""

from __future__ import annotations

import comfy.model_management
import comfy.sd
import pytest
import torch
from comfy.hooks import HookGroup
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete, ModelSamplingSD3
from comfy_extras.nodes_model_merging import ModelMergeSimple
from in_host import plugin, snapshot
from loss_problem import Problem, in_float64
from small_families import build

import nodes as host_nodes

UNET_KEY = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k"
CLIP_KEY = "lora_te_text_model_encoder_layers_1_self_attn_q_proj"
CLIP_WEIGHT = "clip_l.transformer.text_model.encoder.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def models():
    with torch.inference_mode():
        return build("SD1")


def gradient(model, clip, vae, monkeypatch=None):
    """In float32, and in float64 against central differences along itself where there is a monkeypatch."""
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(model, clip, vae)
        with backend.lent(3, backend.latent_shape(64)) as lent:
            found = Problem(lent, torch.float32).gradient()
            if monkeypatch is not None:
                with in_float64(lent, monkeypatch):
                    problem = Problem(lent, torch.float64)
                    exact = problem.gradient()
                    told = float(exact.norm())
                    assert abs(problem.difference(exact / told) - told) < 1e-5 * told
    return found


def lora(models):
    """A LoRA of rank 2 for one layer of the model and one of the text encoder, and the changes that it makes."""
    generator = torch.Generator().manual_seed(6)
    sizes = {UNET_KEY: models.model.model.state_dict()[f"{UNET_KEY}.weight"].shape}
    sizes[CLIP_KEY] = models.clip.cond_stage_model.state_dict()[CLIP_WEIGHT].shape
    file, changes = {}, {}
    for key, (rows, columns) in sizes.items():
        up, down = torch.randn(rows, 2, generator=generator), torch.randn(2, columns, generator=generator)
        file |= {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down, f"{key}.alpha": torch.tensor(2.0)}
        changes[key] = up @ down
    return file, changes


def test_a_lora_is_trained_with_and_stays_out_of_the_weights(models, monkeypatch):
    with torch.inference_mode():
        file, changes = lora(models)
        model, clip = comfy.sd.load_lora_for_models(models.model, models.clip, file, 1.0, 1.0)
    plain, before = gradient(*models), snapshot(models)
    patched = gradient(model, clip, models.vae)
    with torch.inference_mode():
        comfy.model_management.unload_all_models()
    after = snapshot(models)
    assert all(torch.equal(bits, after[key][1]) for key, (_, bits) in before.items())
    with torch.inference_mode():
        baked = build("SD1")
        baked.model.model.get_parameter(f"{UNET_KEY}.weight").add_(changes[UNET_KEY])
        baked.clip.cond_stage_model.get_parameter(CLIP_WEIGHT).add_(changes[CLIP_KEY])
    torch.testing.assert_close(patched, gradient(*baked), rtol=1e-4, atol=1e-7)
    assert torch.cosine_similarity(patched, plain, dim=0) < 0.99
    gradient(model, clip, models.vae, monkeypatch)


def test_a_merged_model(models):
    with torch.inference_mode():
        other = build("SD1")
        for weight in other.model.model.diffusion_model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(9)) * 0.1)
        (merged,) = ModelMergeSimple().merge(models.model, other.model, 0.5)
        baked = build("SD1")
        sides = models.model.model.diffusion_model.parameters(), other.model.model.diffusion_model.parameters()
        for weight, a, b in zip(baked.model.model.diffusion_model.parameters(), *sides, strict=True):
            weight.copy_((a + b) / 2)
    found, wanted = gradient(merged, models.clip, models.vae), gradient(baked.model, models.clip, models.vae)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)
    assert torch.cosine_similarity(found, gradient(*models), dim=0) < 0.999


def test_a_model_that_samples_as_another_kind(models, monkeypatch):
    (model,) = ModelSamplingDiscrete().patch(models.model, "v_prediction", True)
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(model, models.clip, models.vae)
        assert backend.schedule.prediction == "v_prediction" and float(backend.schedule.sigmas[-1]) > 1000
    found = gradient(model, models.clip, models.vae, monkeypatch)
    assert torch.cosine_similarity(found, gradient(*build_again()), dim=0) < 0.99


def build_again():
    with torch.inference_mode():
        return build("SD1")


def test_a_shifted_flow(monkeypatch):
    with torch.inference_mode():
        models = build("SD3")
    (model,) = ModelSamplingSD3().patch(models.model, 1.0)
    with torch.inference_mode(False):
        plain, shifted = (
            plugin("nodes.host.backend").HostBackend(m, models.clip, models.vae).schedule for m in (models.model, model)
        )
    assert plain.prediction == shifted.prediction == "flow"
    assert float(shifted.sigmas[499]) == pytest.approx(0.5) and float(plain.sigmas[499]) > 0.7
    gradient(model, models.clip, models.vae, monkeypatch)


def test_clip_skip(models, monkeypatch):
    (clip,) = host_nodes.CLIPSetLastLayer().set_last_layer(models.clip, -2)
    plain = gradient(*models)
    found = gradient(models.model, clip, models.vae)
    assert torch.cosine_similarity(found, plain, dim=0) < 0.99
    assert torch.equal(plain, gradient(*models))  # the other CLIP's layer has not stayed behind
    gradient(models.model, clip, models.vae, monkeypatch)


def test_what_training_does_not_call_is_told(models):
    """What works on the sampler is left out, and a CLIP may hold an encoder that the model does not read."""

    def told(model, clip, vae):
        return " ".join(plugin("nodes.host.backend").HostBackend(model, clip, vae).ignored())

    assert told(*models) == ""
    wrapped, hooked = models.model.clone(), models.clip.clone()
    wrapped.add_wrapper(WrappersMP.APPLY_MODEL, lambda *_: None)
    hooked.patcher.forced_hooks = HookGroup()
    said = told(wrapped, hooked, models.vae)
    assert "wrappers of other nodes" in said and "The CLIP carries hooks" in said
    with torch.inference_mode():
        chroma, flux = build("Chroma"), build("Flux dev")
    assert told(*chroma) == ""
    assert "Chroma does not read clip_l, so that part of the word learns nothing" in told(
        chroma.model, flux.clip, chroma.vae
    )
