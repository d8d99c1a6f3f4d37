"""Everything that cannot work is one clear sentence with the cure, and nothing is left on loan."""

from __future__ import annotations

import math

import comfy.model_base
import pytest
import small_encoders
import small_families
import small_transformers
import torch
from comfy import supported_models, text_encoders
from in_host import plugin


def picture(height, width, value=0.5):
    return torch.full((1, height, width, 3), value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(images=[]), "no picture to learn from; give 3 to 5"),
        (dict(images=[picture(1, 1)]), "1 x 1 pixels"),
        (dict(images=[picture(16, 20000)]), "20000 x 16 pixels"),
        (dict(images=[picture(64, 64, math.nan)]), "NaN or infinite pixels"),
        (dict(placeholder=[""]), "placeholder is empty"),
        (dict(placeholder=["a,b"]), "must not contain ','"),
        (dict(placeholder=["a:b"]), "must not contain ':'"),
        (dict(initial_words=["circle xyzzy"]), "does not know 'xyzzy'"),
        (dict(num_vectors=[31]), "num_vectors is 31.*30"),
        (dict(steps=[0]), "steps must be"),
        (dict(learning_rate=[0.0]), "learning_rate must be"),
        (dict(learning_rate=[-1.0]), "learning_rate must be"),
        (dict(learning_rate=[math.nan]), "learning_rate must be"),
        (dict(resolution=[100]), "multiple of 8"),
        (dict(captions=["a photo\nanother"]), "does not contain 'S\\*'"),
        (dict(captions=["S* a\nS* b\nS* c"]), "3 captions for 2 pictures"),
        (dict(what=["custom"]), "custom learns from captions of your own"),
        (dict(captions=["S* [class]\nS*"]), r"holds \[class\]"),
        (dict(captions=["[name], [filewords]\nS*"]), "Picture 1 has neither"),
        (dict(captions=["cat.png: a S*\nS*"]), "a picture that is not there.*Picture 1, Picture 2"),
        (dict(captions=["S*"], options=[{"caption_lines": "drawn"}]), "goes with what = custom"),
        (dict(vae=[None]), "gave no VAE"),
        (dict(clip=[None]), "gave no CLIP"),
        (dict(model=[None]), "gave no MODEL"),
    ],
)
def test_one_sentence(train, changes, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        train(**changes)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_a_model_and_a_clip_that_do_not_belong_together(models, train):
    models.model.model.model_config.unet_config["context_dim"] = 768
    with pytest.raises(ValueError, match=r"MODEL and CLIP do not belong together.*768.*128"):
        train()


def test_a_family_that_cannot_learn_is_named_with_the_reason(models, train, monkeypatch):
    monkeypatch.setattr(models.model.model, "__class__", comfy.model_base.SD_X4Upscaler)
    with pytest.raises(ValueError, match=r"is a DemoSD, which cannot learn a word: it adds detail"):
        train()


def test_a_family_that_nobody_has_proven_is_said(models, train, monkeypatch):
    plain = type("Novel", (type(models.model.model),), {})
    monkeypatch.setattr(models.model.model, "__class__", plain)
    assert "Warning: DemoSD (Novel) is not among the families" in train(steps=[1])[3]


def test_a_text_encoder_of_another_family(models, train, monkeypatch):
    monkeypatch.setattr(models.model.model, "__class__", comfy.model_base.StableCascade_C)
    with pytest.raises(ValueError, match=r"MODEL and CLIP do not belong together.*reads clip_g.*holds clip_l"):
        train()


def test_latents_that_are_no_pictures(models, train, monkeypatch):
    monkeypatch.setattr(models.model.model.latent_format, "latent_dimensions", 1)
    with pytest.raises(ValueError, match="its latents are no pictures"):
        train()


def test_a_way_of_sampling_that_nobody_knows(models, train, monkeypatch):
    sampling = models.model.model.model_sampling
    monkeypatch.setattr(type(sampling), "calculate_denoised", lambda self, sigma, out, noisy: noisy - out)
    with pytest.raises(ValueError, match="samples in a way that training does not know"):
        train()


def test_a_text_encoder_of_the_right_name_and_the_wrong_width():
    te = text_encoders.pixart_t5
    with torch.inference_mode():
        models = small_families.build("Chroma")
        other = small_encoders.small_clip(te.PixArtTokenizer, te.PixArtT5XXL, t5_width=48)
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(models.model, other, models.vae)
        message = "cannot read text of this CLIP's width"
        with backend.lent(1, [16, 8, 8]) as lent, pytest.raises(ValueError, match=message):
            cond = lent.encode(["a S*"], {"S*": {"t5xxl": torch.randn(1, 48)}}, differentiable=False).cond
            lent.denoise(torch.randn(1, 16, 8, 8), backend.schedule.sigmas[:1], cond)


def test_pictures_that_are_too_small_for_the_hosts_own_code():
    with torch.inference_mode():
        models = small_families.build("PixArt sigma")
    models.vae.side = 32
    with torch.inference_mode(False), pytest.raises(ValueError, match="Raise resolution to 272 or more"):
        plugin("nodes.host.backend").HostBackend(*models).encode_pictures(torch.rand(1, 3, 256, 256))


EDITING = {
    "instruct-pix2pix": lambda: small_families.sd1(supported_models.SD15_instructpix2pix, inputs=8),
    "Flux control": lambda: small_families.flux_1(inputs=32),
    "Wan from a picture": lambda: small_transformers.wan(supported_models.WAN21_I2V, more_inputs=20),
    "SD2 depth": lambda: small_families.sd2(inputs=5),
}


@pytest.mark.parametrize("name", EDITING)
def test_models_that_edit_are_refused(name, monkeypatch):
    monkeypatch.setitem(small_families.SMALL, name, EDITING[name])
    with torch.inference_mode():
        models = small_families.build(name)
    with torch.inference_mode(False), pytest.raises(ValueError, match="edit") as caught:
        plugin("nodes.host.backend").HostBackend(*models)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_an_inpainting_unet_is_named(models, train):
    models.model.model.model_config.unet_config["in_channels"] = 9
    with pytest.raises(ValueError, match="9 input channels"):
        train()


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        (dict(placeholder=["circle"]), "Warning: circle is a word that the model knows"),
        (dict(images=[picture(64, 64)]), "Warning: There is only one picture"),
        (dict(images=[picture(64, 64), picture(64, 256)]), "Warning: Picture 2 is 256 x 64 pixels"),
        (dict(images=[picture(64, 64)], resolution=[128]), "Warning: Picture 1 is 64 x 64 pixels and is scaled up 2.0"),
        (dict(images=[picture(64, 64)]), "Warning: Picture 1 is one colour all over"),
        (dict(images=[torch.zeros(1, 64, 64, 4)]), "Warning: Picture 1 is transparent all over"),
    ],
)
def test_what_works_but_is_unwise_is_said(train, changes, warning):
    assert warning in train(steps=[1], **changes)[3]


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({}, ["No picture has a caption of its own"]),
        (dict(captions=["a red S*\n\n"]), ["1 of 2 pictures", "Picture 1: a red S*", "Picture 2: (drawn)"]),
        (dict(captions=["Picture 2: two S*\nPicture 1: S*"]), ["2 of 2", "Picture 1: S*", "Picture 2: two S*"]),
        (dict(captions=["S* a\nS* b\n"], what=["custom"]), ["Picture 2: S* b", "set caption_lines to drawn"]),
        (dict(captions=["S* a\nS* b\n"], what=["custom"], options=[{"caption_lines": "drawn"}]), ["the 2 captions"]),
        (dict(captions=["S* a\nS* b\nS* c\n\n"], what=["custom"]), ["Every picture draws from the 3 captions"]),
    ],
)
def test_the_report_says_which_picture_has_which_caption(train, changes, sentences):
    report = train(steps=[1], **changes)[3]
    assert all(sentence in report for sentence in sentences)


def test_parentheses_in_captions_weigh_nothing(train):
    literal, escaped, weighed = (
        train(steps=[2], captions=[text, text])[0].vectors["clip_l"]
        for text in ("a (red) S*", r"a \(red\) S*", "a (red:1.0) S*")
    )
    assert torch.equal(literal, escaped) and not torch.equal(literal, weighed)


def test_captions_are_used(train):
    plain = train()[0].vectors["clip_l"]
    captions = train(captions=["a red S*", "a blue S*"])[0].vectors["clip_l"]
    templates = train(captions=["a red {}\na blue [name]\nthe S*"], what=["custom"])[0].vectors["clip_l"]
    assert not torch.equal(plain, captions) and not torch.equal(captions, templates)


def test_missing_weights_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="are missing; install"):
        plugin("nodes.host.models.demo").load_demo_models(tmp_path / "none.safetensors")
