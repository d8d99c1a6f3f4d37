"""What tells the models of one run from those of another."""

from __future__ import annotations

import pytest
import torch
from in_host import plugin


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
