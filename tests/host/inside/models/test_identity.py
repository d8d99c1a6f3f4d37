"""What tells the models of one run from those of another."""

from __future__ import annotations

import folder_paths
import pytest
import torch
from in_host import plugin
from safetensors.torch import save_file
from true_weights import clip_l_weights

import nodes


def identity(model, clip, vae):
    with torch.inference_mode(False):
        return plugin("nodes.host.backend").HostBackend(model, clip, vae).identity()


def test_it_stays_over_training_and_sampling(models, train):
    before = identity(*models)
    assert before is not None
    train(preview_every=[2])
    assert identity(*models) == before
    assert identity(models.model.clone(), models.clip.clone(), models.vae) == before


def lora(models):
    model = models.model.clone()
    name = next(name for name, weight in model.model.named_parameters() if weight.ndim == 2)
    model.add_patches({name: (torch.ones_like(model.model.state_dict()[name]),)}, 0.1)
    return model, models.clip, models.vae


def clip_layer(models):
    clip = models.clip.clone()
    clip.clip_layer(-2)
    return models.model, clip, models.vae


def another_vae(models):
    with torch.inference_mode():
        next(models.vae.first_stage_model.parameters()).add_(1)
    return models


@pytest.mark.parametrize("change", [lora, clip_layer, another_vae])
def test_it_tells_changed_models_apart(models, change):
    before = identity(*models)
    assert before is not None
    after = identity(*change(models))
    assert after is not None and after != before


def test_models_that_carry_code_have_none(models):
    wrapped, patched = models.model.clone(), models.model.clone()
    wrapped.set_model_unet_function_wrapper(
        lambda function, args: function(args["input"], args["timestep"], **args["c"])
    )
    patched.set_model_attn1_patch(lambda q, k, v, extra: (q, k, v))
    for model in (wrapped, patched):
        assert identity(model, models.clip, models.vae) is None


def test_what_no_file_holds_does_not_count(tmp_path):
    """The host leaves it with what was in memory: runs of SD1 and SDXL would not be found after the next start."""
    save_file(clip_l_weights("text_model."), tmp_path / "clip_l_as_published.safetensors")
    folder_paths.add_model_folder_path("text_encoders", str(tmp_path))
    folder_paths.filename_list_cache.clear()
    marks, clips = [], []
    for filled in (False, True):
        torch.use_deterministic_algorithms(filled)  # fills new memory with NaN
        try:
            with torch.inference_mode():
                clips += nodes.CLIPLoader().load_clip("clip_l_as_published.safetensors", "stable_diffusion")
        finally:
            torch.use_deterministic_algorithms(False)
        marks.append(plugin("nodes.host.models.fingerprint").weights_fingerprint([clips[-1].patcher]))
    assert any(bool(weight.isnan().any()) for weight in clips[-1].cond_stage_model.parameters())
    assert marks[0] == marks[1]
    with torch.inference_mode():
        clips[-1].cond_stage_model.clip_l.transformer.text_model.final_layer_norm.bias[0] += 1
    assert plugin("nodes.host.models.fingerprint").weights_fingerprint([clips[-1].patcher]) != marks[0]
