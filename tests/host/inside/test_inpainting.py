"""Inpainting models are told of a picture what the host's own node would tell them, with masks of all kinds."""

from __future__ import annotations

import comfy.samplers
import pytest
import torch
from in_host import plugin
from small_families import build

import nodes as host_nodes

PIXELS = 64


@pytest.fixture(params=["SD1 inpainting", "SD2 inpainting", "SDXL inpainting", "Flux Fill"])
def models(request):
    with torch.inference_mode():
        return build(request.param)


@pytest.fixture
def backend(models):
    with torch.inference_mode(False):
        return plugin("nodes.host.backend").HostBackend(*models)


def masks(count, generator=None):
    inpainting = plugin("nodes.host.inpainting")
    return inpainting.random_masks(count, PIXELS, PIXELS, generator or torch.Generator().manual_seed(1))


def test_masks_are_of_all_kinds():
    drawn = masks(200)
    assert drawn.shape == (200, 1, PIXELS, PIXELS) and bool(((drawn == 0) | (drawn == 1)).all())
    shares = drawn.flatten(1).mean(1)
    assert shares.min() < 0.1 and shares.max() > 0.5 and 0.1 < shares.mean() < 0.5
    assert len({tuple(mask.flatten().tolist()) for mask in drawn}) == 200
    assert torch.equal(drawn, masks(200))


def test_what_is_told_is_what_the_hosts_node_tells(models, backend, monkeypatch):
    """Picture and mask through InpaintModelConditioning and the host's sampler, or through ours."""
    inpainting = plugin("nodes.host.inpainting")
    picture = torch.rand(1, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(2))
    mask = masks(1)
    monkeypatch.setattr(inpainting, "MASKS", 1)
    monkeypatch.setattr(inpainting, "WHOLE", 0)
    monkeypatch.setattr(inpainting, "random_masks", lambda *_: mask)
    with torch.inference_mode(False):
        encoded = backend.encode_pictures(picture)
    assert encoded.inpainting.shape[1] == backend.family.inpainting_channels
    with torch.inference_mode():
        cond = models.clip.encode_from_tokens_scheduled(models.clip.tokenize("a photo"))
        (positive, _, latent) = host_nodes.InpaintModelConditioning().encode(
            cond, cond, picture.movedim(1, -1), models.vae, mask[0], True
        )
        seen = {}

        def look(function, given):
            seen.update(given["c"])
            return function(given["input"], given["timestep"], **given["c"])

        model = models.model.clone()
        model.set_model_unet_function_wrapper(look)
        comfy.sample.sample(
            model, torch.randn_like(latent["samples"]), 1, 1.0, "euler", "normal", positive, positive,
            latent["samples"], noise_mask=latent["noise_mask"], disable_pbar=True, seed=1,
        )  # fmt: skip
    torch.testing.assert_close(encoded.inpainting, seen["c_concat"][:1].float(), rtol=1e-5, atol=1e-6)
    wanted = models.model.model.process_latent_in(latent["samples"])
    torch.testing.assert_close(encoded.mean, wanted)


def test_every_picture_is_seen_behind_several_masks(models, backend):
    inpainting, engine = plugin("nodes.host.inpainting"), plugin("ti_engine")
    pictures = torch.rand(2, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(3))
    config = engine.TrainConfig(resolution=PIXELS, flip=True, steps=1)
    with torch.inference_mode(False):
        dataset = engine.encode_training_set(backend, list(pictures), config, ["one S*", "two S*"])
    assert len(dataset.mean) == inpainting.MASKS * 4
    latents, told = dataset.mean, dataset.inpainting
    for row in range(len(latents)):  # row i is of picture i % 2, mirrored where i % 4 > 1
        assert torch.equal(latents[row], latents[row % 4])
    assert not torch.equal(latents[0], latents[1]) and not torch.equal(latents[0], latents[2])
    whole = told[: inpainting.WHOLE * 4]
    assert all(torch.equal(row, whole[0]) for row in whole)  # nothing of the pictures is left
    assert len({tuple(row.flatten().tolist()) for row in told}) == 1 + (inpainting.MASKS - inpainting.WHOLE) * 4


def test_the_inpainting_channels_reach_the_model_unchanged(models, backend):
    channels = models.model.model.latent_format.latent_channels
    seen = []
    apply = models.model.model.apply_model
    generator = torch.Generator().manual_seed(4)
    noisy = torch.randn(3, channels, 8, 8, generator=generator)
    more = torch.randn(3, backend.family.inpainting_channels, 8, 8, generator=generator)
    keys = {k: torch.randn(1, e.width, generator=generator) for k, e in backend.encoders.items()}
    with torch.inference_mode(False), backend.lent(3, noisy.shape[1:]) as lent, torch.no_grad():
        captions = ["a photo of S*", "a photo of S*", "a S*"]
        cond = lent.encode(captions, {"S*": keys}, differentiable=False).cond
        models.model.model.apply_model = lambda *a, **k: seen.append(k["c_concat"]) or apply(*a, **k)
        lent.denoise(noisy, backend.schedule.sigmas[[10, 20, 30]], cond, more)
    assert torch.equal(torch.cat(seen), more)
