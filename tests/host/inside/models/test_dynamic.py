"""Models that the host loads dynamically: they are trained through plain twins, which are gone after the run.

Here only their kind is dynamic, as the host's own has nothing to fault in on a CPU.
"""

from __future__ import annotations

import gc
import weakref

import comfy.model_management as memory
import comfy.model_patcher
import folder_paths
import pytest
import small_families
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd1_clip import SD1ClipModel
from in_host import REFERENCE, plugin, snapshot
from loss_problem import Problem
from safetensors.torch import save_file
from true_weights import random_weights

import nodes as host_nodes

pytestmark = pytest.mark.skipif(not hasattr(ModelPatcher, "is_dynamic"), reason="this host loads nothing dynamically")


class Dynamic(ModelPatcher):
    def is_dynamic(self):
        return True


@pytest.fixture
def everything_is_dynamic(monkeypatch):
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", Dynamic)  # as the host's main.py does


@pytest.fixture
def loaded(everything_is_dynamic, tmp_path):
    """A MODEL from the host's own loader with a patch on it, a CLIP with another, and both patches at work for good."""
    with torch.inference_mode():
        baked = small_families.build("SD3")
        baked.clip.patcher.__class__ = ModelPatcher
        weights = baked.model.model.diffusion_model.state_dict()
        file = tmp_path / "sd3.safetensors"
        save_file({k: v.contiguous() for k, v in weights.items()}, file)
        folder_paths.add_model_folder_path("diffusion_models", str(tmp_path))
        folder_paths.filename_list_cache.clear()
        (model,) = host_nodes.UNETLoader().load_unet(file.name, "default")
        clip = small_families.build("SD3").clip
        clip.patcher.cached_patcher_init = (lambda disable_dynamic: small_families.build("SD3").clip.patcher, ())
        patched = [model.clone(), clip.clone()]
        for one, root in zip(patched, (baked.model.model, baked.clip.cond_stage_model), strict=True):
            name = next(n for n, p in root.named_parameters() if "attn" in n and p.ndim == 2)
            change = torch.randn(root.get_parameter(name).shape, generator=torch.Generator().manual_seed(3)) * 0.1
            assert one.add_patches({name: ("diff", (change,))})
            root.get_parameter(name).add_(change)
    return small_families.Models(*patched, baked.vae), baked


def gradient(backend):
    with backend.lent(3, backend.latent_shape(64)) as lent:
        return Problem(lent, torch.float32).gradient()


def test_the_twins_are_trained_with_and_do_not_stay(loaded):
    models, baked = loaded
    assert models.model.is_dynamic() and models.clip.patcher.is_dynamic()
    before = snapshot(models)
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(*models)
        wanted = gradient(plugin("nodes.host.backend").HostBackend(*baked))
        with backend.lent(3, backend.latent_shape(64)) as lent:
            plain = lent.models
            twins = [plain.patcher, plain.clip.patcher]
            assert not any(twin.is_dynamic() for twin in twins) and twins[0].model is not models.model.model
            assert plain.clip.cond_stage_model is twins[1].model is not models.clip.cond_stage_model
            found = Problem(lent, torch.float32).gradient()
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.norm()))
        gone = [weakref.ref(twin.model) for twin in twins]
        del lent, plain, twins
    gc.collect()
    assert all(one() is None for one in gone)
    memory.cleanup_models()
    assert all(one.model is not None for one in memory.current_loaded_models)
    after = snapshot(models)
    assert all(after[key][0] is tensor and torch.equal(after[key][1], bits) for key, (tensor, bits) in before.items())


def test_a_run_is_looked_up_without_the_twins(loaded, monkeypatch):
    """Loading SDXL a second time takes many seconds, at each press of Run."""
    models, baked = loaded
    with torch.inference_mode(False):
        wanted = plugin("nodes.host.backend").HostBackend(*baked)
        monkeypatch.setattr(ModelPatcher, "clone", lambda *_, **__: pytest.fail("A twin was loaded."))
        found = plugin("nodes.host.backend").HostBackend(*models)
        assert found.description == wanted.description and found.encoders.keys() == wanted.encoders.keys()
        assert found.word_tokens("cat") == wanted.word_tokens("cat")
        found.vae.patcher = models.clip.patcher  # the stand-in has none
        assert found.identity() == found.identity() is not None


def test_a_clip_from_the_hosts_own_loader(everything_is_dynamic, tmp_path):
    with torch.inference_mode():
        encoder = SD1ClipModel(device="meta", dtype=torch.float16).clip_l.transformer
        file = tmp_path / "clip_l.safetensors"
        save_file(random_weights("", encoder), file)
        folder_paths.add_model_folder_path("text_encoders", str(tmp_path))
        folder_paths.filename_list_cache.clear()
        (clip,) = host_nodes.CLIPLoader().load_clip(file.name, "stable_diffusion")
        assert clip.patcher.is_dynamic()
        plain = plugin("nodes.host.models.dynamic").non_dynamic_clip(clip)
        assert not plain.patcher.is_dynamic() and plain.cond_stage_model is plain.patcher.model
        pairs = zip(clip.cond_stage_model.parameters(), plain.cond_stage_model.parameters(), strict=True)
        assert all(a is not b and torch.equal(a, b) for a, b in pairs)


def test_the_demo_model_is_never_dynamic(everything_is_dynamic, monkeypatch, train):
    """Its weights have no file of the host's kinds, from which they could be loaded again."""
    wanted = train()[0]
    with torch.inference_mode(), monkeypatch.context() as on_a_card:
        on_a_card.setattr("comfy.memory_management.aimdo_enabled", True)  # layers are made without weights then
        model, clip, vae = plugin("nodes.host.models.demo").load_demo_models(REFERENCE / "demo.safetensors")
    assert not model.is_dynamic() and not clip.patcher.is_dynamic()
    torch.testing.assert_close(train(model=[model], clip=[clip], vae=[vae])[0].vectors, wanted.vectors, rtol=0, atol=0)


def test_the_vocabulary_is_not_copied_for_every_look(models):
    """As such a host does with a layer's table while the layer has its mark."""
    layer = models.clip.cond_stage_model.clip_l.transformer.get_input_embeddings()
    layer._v = mark = object()
    marked = []
    layer.register_forward_pre_hook(lambda layer, _: marked.append(hasattr(layer, "_v")))
    vocabulary = plugin("nodes.host.models.vocabulary").ClipVocabulary(models.clip)
    assert vocabulary.nearest_words("clip_l", vocabulary.word_vectors("circle")["clip_l"][0], 1)[0][0] == "circle"
    assert marked and not any(marked) and layer._v is mark


@pytest.mark.parametrize("socket", ["MODEL", "CLIP"])
def test_a_model_that_cannot_be_loaded_again(socket):
    with torch.inference_mode():
        models = small_families.build("SD1")
    (models.model if socket == "MODEL" else models.clip.patcher).__class__ = Dynamic
    with pytest.raises(ValueError, match=f"The {socket} is loaded with dynamic VRAM.*--disable-dynamic-vram"):
        plugin("nodes.host.backend").HostBackend(*models)
