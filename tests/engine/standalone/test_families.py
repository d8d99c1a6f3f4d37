"""Every family of diffusers pipelines through diffusers' own classes, small and with random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers
from small_models import draw, small_scheduler
from small_pipelines import KINDS, build_pipeline, flow_scheduler, modules_of

from ti_engine import TokenEmbedding, TrainConfig, TrainRecord, encode_training_set, train
from ti_engine.files import save_embedding
from ti_engine.standalone import DiffusersBackend
from ti_engine.training.loss import sample_losses
from ti_engine.training.samples import Samples

V_ZERO_TERMINAL: dict[str, Any] = dict(prediction="v_prediction", rescale_betas_zero_snr=True)


def draw_latents(backend: DiffusersBackend, count: int, side: int = 4, seed: int = 1) -> Tensor:
    return draw(count, backend._autoencoder.channels, side, side, seed=seed)


def draw_vectors(backend: DiffusersBackend, count: int = 1) -> dict[str, Tensor]:
    return {key: 0.3 * draw(count, info.width, seed=3) for key, info in backend.encoders.items()}


def row_of(pipeline: Any, number: str, word: str) -> tuple[Tensor, int]:
    """The vocabulary's vector [1, width] and the id of a word of one token."""
    (token,) = getattr(pipeline, f"tokenizer{number}")(word, add_special_tokens=False).input_ids
    name = "bert" if hasattr(pipeline, "bert") else f"text_encoder{number}"
    return getattr(pipeline, name).get_input_embeddings().weight[[token]].detach(), token


PLACES = {
    "sdxl": {"clip_l": "", "clip_g": "_2"},
    "sd3": {"clip_l": "", "clip_g": "_2", "t5xxl": "_3"},
    "flux": {"clip_l": "", "t5xxl": "_2"},
    "ldm": {"bert": ""},
}


def encoded_by_pipeline(kind: str, pipeline: Any, texts: list[str]) -> list[Tensor]:
    with torch.no_grad():
        if kind == "ldm":
            ids = pipeline.tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
            return [pipeline.bert(ids.input_ids)[0]]
        if kind == "flux":
            return list(pipeline.encode_prompt(texts)[:2])
        more: Any = dict(prompt_2=None, prompt_3=None) if kind == "sd3" else {}
        hidden, _, pooled, _ = pipeline.encode_prompt(texts, do_classifier_free_guidance=False, **more)
        return [hidden, pooled]


# --- the gradient

EXACT = {"sdxl": {}, "sdxl-v": {}, "sd3-clip": {"t5": False, "qk_norm": None}, "ldm": {}}
ROUNDED = {"sd3": {}, "flux": {}, "flux-schnell": {"guidance_embeds": False}}  # T5 and rotations compute in float32


@pytest.mark.parametrize("name", [*EXACT, *ROUNDED])
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    more: dict[str, Any] = dict({**EXACT, **ROUNDED}[name])
    if name == "sdxl-v":
        more["scheduler"] = small_scheduler(diffusers.EulerDiscreteScheduler, **V_ZERO_TERMINAL)
    backend = DiffusersBackend(build_pipeline(name.split("-")[0], **more))
    captions = ["a photo of S*", "S* left of a S*, on the background", "a photo of S*"]
    latents, noise = draw_latents(backend, 3), draw_latents(backend, 3, seed=2)
    sigma = backend.schedule.sigmas[[100, 500, 900]]
    vectors = {key: rows.requires_grad_(True) for key, rows in draw_vectors(backend, 2).items()}

    def loss(changed: Mapping[str, Tensor]) -> float:
        with torch.no_grad():
            cond = backend.encode(captions, {"S*": changed}, differentiable=False).cond
            return float(sample_losses(backend, Samples(latents, noise, sigma, []), cond).mean())

    encoded = backend.encode(captions, {"S*": vectors}, differentiable=True)
    sample_losses(backend, Samples(latents, noise, sigma, []), encoded.cond).mean().backward()
    assert all(rows.grad is None for rows in vectors.values())  # the encoders' graph is apart until backward()
    encoded.backward()
    base = {key: rows.detach() for key, rows in vectors.items()}
    h, count = (1e-3, 16) if name in EXACT else (0.02, 8)
    for key, rows in vectors.items():
        assert rows.grad is not None
        places = torch.randperm(rows.numel(), generator=torch.Generator().manual_seed(0))[:count]
        numeric = torch.zeros(count, dtype=torch.float64)
        for number, place in enumerate(places):
            step = torch.zeros(rows.numel(), dtype=torch.float64)
            step[place] = h
            at = [loss({**base, key: base[key] + n * step.reshape(rows.shape)}) for n in (1, -1, 2, -2)]
            # the five-point formula: its error is of order h^4
            numeric[number] = (8 * (at[0] - at[1]) - (at[2] - at[3])) / (12 * h)
        analytic = rows.grad.flatten()[places]
        error = float((analytic - numeric).norm() / numeric.norm())
        cosine = float(torch.cosine_similarity(analytic, numeric, 0))
        assert error < (1e-6 if name in EXACT else 1e-3)
        assert cosine > 0.9999


def test_every_encoder_is_heard_and_so_is_the_pooled_vector() -> None:
    """SDXL's pooled vector alone carries a gradient to clip_g; Flux's to clip_l, which it hears by nothing else."""
    for kind, key in (("sdxl", "clip_g"), ("flux", "clip_l")):
        backend = DiffusersBackend(build_pipeline(kind))
        vectors = {name: rows.requires_grad_(True) for name, rows in draw_vectors(backend).items()}
        encoded = backend.encode(["a photo of S*"], {"S*": vectors}, differentiable=True)
        (encoded.cond.rows()["pooled"] * draw(1, encoded.cond.tensors["pooled"].shape[1])).sum().backward()
        encoded.backward()
        reached = {name for name, rows in vectors.items() if rows.grad is not None and bool(rows.grad.any())}
        assert reached == {key}


# --- the loss


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_loss_of_sdxl_is_that_of_diffusers_training_script(prediction: str) -> None:
    pipeline = build_pipeline("sdxl", scheduler=small_scheduler(diffusers.EulerDiscreteScheduler, prediction))
    backend, texts = DiffusersBackend(pipeline), ["a photo of cat", "the red circle"] * 2
    latents, noise, timesteps = (
        draw_latents(backend, 4, 6),
        draw_latents(backend, 4, 6, 2),
        torch.tensor([1, 200, 650, 999]),
    )
    scheduler: Any = diffusers.DDPMScheduler.from_config(pipeline.scheduler.config)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    noisy = scheduler.add_noise(latents, noise, timesteps)
    hidden, pooled = encoded_by_pipeline("sdxl", pipeline, texts)
    sizes = torch.tensor([[48.0, 48, 0, 0, 48, 48]]).double().repeat(4, 1)  # original, crop, target
    with torch.no_grad():
        added = {"time_ids": sizes, "text_embeds": pooled}
        out = pipeline.unet(noisy, timesteps, hidden, added_cond_kwargs=added, return_dict=False)[0]
    target = noise if prediction == "epsilon" else scheduler.get_velocity(latents, noise, timesteps)
    expected = (out - target).square().flatten(1).mean(1)
    assert_losses(backend, texts, latents, noise, backend.schedule.sigmas[timesteps], expected, 1e-6)


@pytest.mark.parametrize("t5", [True, False])
def test_loss_of_sd3_is_that_of_diffusers_training_script(t5: bool) -> None:
    pipeline = build_pipeline("sd3", t5=t5)

    def velocity(noisy: Tensor, timesteps: Tensor, texts: list[str]) -> Tensor:
        hidden, pooled = encoded_by_pipeline("sd3", pipeline, texts)
        return pipeline.transformer(noisy, hidden, pooled, timesteps, return_dict=False)[0]

    assert_flow_losses(pipeline, velocity)


@pytest.mark.parametrize("guidance_embeds", [True, False])
def test_loss_of_flux_is_that_of_diffusers_training_script(guidance_embeds: bool) -> None:
    pipeline = build_pipeline("flux", guidance_embeds=guidance_embeds)

    def velocity(noisy: Tensor, timesteps: Tensor, texts: list[str]) -> Tensor:
        hidden, pooled, text_ids = pipeline.encode_prompt(texts)
        packed = pipeline.transformer(
            hidden_states=pipeline._pack_latents(noisy, 4, 16, 6, 6),
            timestep=timesteps / 1000,
            guidance=torch.ones(4) if guidance_embeds else None,
            pooled_projections=pooled,
            encoder_hidden_states=hidden,
            txt_ids=text_ids,
            img_ids=pipeline._prepare_latent_image_ids(4, 3, 3, "cpu", torch.float64),
        ).sample
        return pipeline._unpack_latents(packed, 48, 48, 8)

    assert_flow_losses(pipeline, velocity)


def assert_flow_losses(pipeline: Any, velocity: Callable[[Tensor, Tensor, list[str]], Tensor]) -> None:
    """velocity: the model's, of noisy latents [4, C, 6, 6], timesteps [4] and texts."""
    backend, texts = DiffusersBackend(pipeline), ["a photo of cat", "the red circle"] * 2
    latents, noise = draw_latents(backend, 4, 6), draw_latents(backend, 4, 6, 2)
    index = torch.tensor([0, 300, 700, 998])
    sigma, timesteps = pipeline.scheduler.sigmas[index].double(), pipeline.scheduler.timesteps[index]
    noisy = (1 - sigma[:, None, None, None]) * latents + sigma[:, None, None, None] * noise
    with torch.no_grad():
        out = velocity(noisy, timesteps, texts)
    expected = (out - (noise - latents)).square().flatten(1).mean(1)
    assert_losses(backend, texts, latents, noise, sigma, expected, 1e-5)


def assert_losses(
    backend: DiffusersBackend,
    texts: list[str],
    latents: Tensor,
    noise: Tensor,
    sigma: Tensor,
    theirs: Tensor,
    rtol: float,
) -> None:
    with torch.no_grad():
        cond = backend.encode(texts, {}, differentiable=False).cond
        ours = sample_losses(backend, Samples(latents, noise, sigma, []), cond)
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=0)


# --- the text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_vocabulary_word_by_its_own_vector_is_the_pipelines_conditioning(kind: str, dtype: torch.dtype) -> None:
    pipeline = build_pipeline(kind, dtype)
    backend = DiffusersBackend(pipeline)
    vectors = {key: row_of(pipeline, number, "cat")[0] for key, number in PLACES[kind].items()}
    texts = ["a photo of S*", "S*, on the red circle", "a (photo) of a S*'s background"]
    cond = backend.encode(texts, {"S*": vectors}, differentiable=False).cond
    expected = encoded_by_pipeline(kind, pipeline, [text.replace("S*", "cat") for text in texts])
    assert len(cond.tensors) == len(expected)
    for ours, theirs in zip(cond.rows().values(), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_without_t5_the_texts_of_sd3_end_in_zeros_as_the_pipelines_do() -> None:
    pipeline = build_pipeline("sd3", t5=False)
    backend = DiffusersBackend(pipeline)
    assert list(backend.encoders) == ["clip_l", "clip_g"]
    vectors = {key: row_of(pipeline, number, "cat")[0] for key, number in list(PLACES["sd3"].items())[:2]}
    cond = backend.encode(["a S*"], {"S*": vectors}, differentiable=False).cond.rows()
    hidden, pooled = encoded_by_pipeline("sd3", pipeline, ["a cat"])
    assert torch.equal(cond["hidden"], hidden)
    assert torch.equal(cond["pooled"], pooled)
    assert not hidden[:, 77:].any()


def test_a_long_text_is_cut_as_the_pipeline_does() -> None:
    pipeline = build_pipeline("flux")
    backend = DiffusersBackend(pipeline)
    vectors = {key: row_of(pipeline, number, "cat")[0] for key, number in PLACES["flux"].items()}
    more = " a red circle" * 30
    cond = backend.encode([f"a S* {more}"], {"S*": vectors}, differentiable=False).cond.rows()
    for ours, theirs in zip(cond.values(), encoded_by_pipeline("flux", pipeline, [f"a cat {more}"]), strict=True):
        assert torch.equal(ours, theirs)
    cond = backend.encode([f"{more} S*"], {"S*": vectors}, differentiable=False).cond.rows()
    for ours, theirs in zip(cond.values(), encoded_by_pipeline("flux", pipeline, [f"{more} cat"]), strict=True):
        assert torch.equal(ours, theirs)
    sdxl = DiffusersBackend(build_pipeline("sdxl"))
    with pytest.raises(ValueError, match="the model takes 75"):
        sdxl.encode([f"a S* {more}"], {"S*": draw_vectors(sdxl)}, differentiable=False)


@pytest.mark.parametrize("kind", ["sd3", "flux"])
@pytest.mark.parametrize("before", [0, 69, 70, 72, 75, 80])
def test_vectors_that_are_read_are_those_with_a_gradient(kind: str, before: int) -> None:
    backend = DiffusersBackend(build_pipeline(kind))
    caption = "red " * before + "S*"
    vectors = {key: rows.requires_grad_(True) for key, rows in draw_vectors(backend, 5).items()}
    encoded = backend.encode([caption], {"S*": vectors}, differentiable=True)
    random = [torch.randn(output.shape, generator=torch.Generator().manual_seed(0)) for output, _ in encoded.outputs]
    torch.autograd.backward([output for output, _ in encoded.outputs], random)
    read = backend.rows_read(["a S*", caption], "S*", 5)
    for key, rows in vectors.items():
        assert rows.grad is not None
        assert read[key] == [{0, 1, 2, 3, 4}, set(rows.grad.any(1).nonzero().flatten().tolist())]
        assert len(read[key][1]) == (5 if key == "t5xxl" else min(5, max(0, 75 - before)))


def test_a_prompt_that_hides_a_part_of_the_word_is_refused() -> None:
    backend = DiffusersBackend(build_pipeline("flux"))
    word = {"S*": draw_vectors(backend, 2)}
    with pytest.raises(ValueError, match=r"^clip_l reads 1 of 2 vector\(s\) of S\*.*Shorten"):
        backend.generate(["red " * 74 + "S*"], word, [1], 32, steps=1)
    backend.generate(["S* " + "red " * 74, "red " * 90], word, [1, 2], 32, steps=1)


# --- noise levels


def test_flow_levels_are_the_schedulers_shift_included() -> None:
    for shift in (1.0, 3.0):
        scheduler = flow_scheduler(shift=shift)
        backend = DiffusersBackend(build_pipeline("sd3", scheduler=scheduler))
        expected = flow_scheduler(shift=shift).sigmas.flip(0).double()
        scheduler.set_timesteps(3)  # what it was asked for last changes nothing
        torch.testing.assert_close(backend.schedule.sigmas, expected, rtol=1e-6, atol=0)
        assert backend.schedule.prediction == "flow"


def test_dynamic_shift_is_that_of_the_models_own_resolution() -> None:
    backend = DiffusersBackend(build_pipeline("flux"))
    assert backend.resolution == 1024
    plain = torch.arange(1, 1001).double() / 1000
    shifted = torch.exp(torch.tensor(1.15)) / (torch.exp(torch.tensor(1.15)) + (1 / plain - 1))  # 4096 tokens
    torch.testing.assert_close(backend.schedule.sigmas, shifted.double(), rtol=1e-6, atol=0)


def test_zero_terminal_snr_of_sdxl_has_a_finite_last_level() -> None:
    scheduler = small_scheduler(diffusers.EulerDiscreteScheduler, **V_ZERO_TERMINAL)
    backend = DiffusersBackend(build_pipeline("sdxl", scheduler=scheduler))
    assert backend.schedule.prediction == "v_prediction"
    assert bool(backend.schedule.sigmas.isfinite().all())
    assert float(backend.schedule.sigmas[-1]) > 1000


# --- pictures

SAMPLED = {
    "sdxl": ("sdxl", lambda: small_scheduler(diffusers.DDIMScheduler, clip_sample=False, steps_offset=1)),
    "sdxl euler": ("sdxl", lambda: small_scheduler(
        diffusers.EulerDiscreteScheduler, timestep_spacing="leading", steps_offset=1)),
    "sdxl zero terminal": ("sdxl", lambda: small_scheduler(
        diffusers.DDIMScheduler, clip_sample=False, timestep_spacing="trailing", **V_ZERO_TERMINAL)),
    "sd3": ("sd3", lambda: flow_scheduler(shift=3.0)),
    "flux dev": ("flux", lambda: flow_scheduler(shift=3.0, use_dynamic_shifting=True)),
    "flux schnell": ("flux", lambda: flow_scheduler(shift=1.0)),
    "ldm": ("ldm", lambda: small_scheduler(diffusers.DDIMScheduler, clip_sample=False, steps_offset=1)),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLED)
def test_pictures_are_those_of_the_pipeline(name: str) -> None:
    kind, scheduler = SAMPLED[name]
    more: dict[str, Any] = {"guidance_embeds": False} if name == "flux schnell" else {}
    pipeline = build_pipeline(kind, scheduler=scheduler(), **more)
    pipeline.set_progress_bar_config(disable=True)
    backend = DiffusersBackend(pipeline)
    word = TokenEmbedding({key: row_of(pipeline, number, "cat")[0] for key, number in PLACES[kind].items()})
    ours = backend.generate(["a photo of S*", "a red circle"], {word.placeholder: word.vectors}, [3, 4], 32, steps=5)
    shape = (backend._autoencoder.channels, 4, 4)
    latents = torch.stack(
        [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)]
    ).double()
    if kind == "flux":
        latents = pipeline._pack_latents(latents, 2, 16, 4, 4)
    theirs = pipeline(
        ["a photo of cat", "a red circle"],
        height=32,
        width=32,
        num_inference_steps=5,
        guidance_scale=backend.guidance,
        latents=latents,
        output_type="pt",
    ).images
    assert float(theirs.std()) > 0.01  # so that equality says something
    rounding = 5e-4 if name == "sdxl zero terminal" else 1e-5  # pure noise is taken for an alpha of 2^-24
    torch.testing.assert_close(ours, torch.as_tensor(theirs).float(), rtol=0, atol=rounding)


def test_autoencoders_give_latents_in_the_models_scale() -> None:
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for kind in ("sd3", "flux"):
        pipeline = build_pipeline(kind)
        encoded = DiffusersBackend(pipeline).encode_pictures(pictures)
        with torch.no_grad():
            posterior = pipeline.vae.encode((pictures * 2 - 1).double()).latent_dist
        torch.testing.assert_close(encoded.mean, (posterior.mean - 0.12) * 0.36)
        torch.testing.assert_close(encoded.deviation, posterior.std * 0.36)
        with pytest.raises(ValueError, match="multiples of 16, got 40"):
            DiffusersBackend(pipeline).encode_pictures(torch.zeros(1, 3, 40, 32))
    quantised = build_pipeline("ldm", quantised=True)
    encoded = DiffusersBackend(quantised).encode_pictures(pictures)
    with torch.no_grad():
        latents = quantised.vqvae.encode((pictures * 2 - 1).double()).latents
    torch.testing.assert_close(encoded.mean, latents * quantised.vqvae.config.scaling_factor)
    assert not encoded.deviation.any()


# --- the run


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss_and_leaves_the_pipeline_alone(kind: str) -> None:
    pipeline = build_pipeline(kind, torch.float32)
    modules = modules_of(pipeline)
    modules["bert" if kind == "ldm" else "text_encoder"].train(True)
    before = {name: {key: t.clone() for key, t in module.state_dict().items()} for name, module in modules.items()}
    settings = dict(pipeline.config)
    pictures = list(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    settings_of_run: dict[str, Any] = dict(batch_size=2, resolution=64, learning_rate=0.05, schedule="constant")

    def learn(steps: int) -> TrainRecord:
        backend = DiffusersBackend(pipeline)
        config = TrainConfig(steps=steps, evaluate_every=steps, num_vectors=2, warmup_steps=0, **settings_of_run)
        record = list(train(backend, encode_training_set(backend, pictures, config), config))[-1].record
        backend.sample("a photo of S*", record.embedding(), seed=0, resolution=32, steps=2)
        return record

    first, second = learn(20), learn(3)
    assert first.evaluations[20] < first.evaluations[0]
    for key in PLACES[kind]:
        assert all(torch.equal(first.trajectory[step][key], second.trajectory[step][key]) for step in range(4))
        assert not torch.equal(first.trajectory[0][key], first.trajectory[len(first.losses)][key])
    for name, module in modules.items():
        state = module.state_dict()
        assert list(state) == list(before[name])
        assert all(torch.equal(tensor, before[name][key]) for key, tensor in state.items())
        assert all(p.requires_grad and p.grad is None for p in module.parameters())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
        assert getattr(pipeline, name) is module
        assert module.training is (name == ("bert" if kind == "ldm" else "text_encoder"))
    assert dict(pipeline.config) == settings


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind in KINDS[:3] for key in PLACES[kind]])
def test_one_encoder_learns_and_the_others_see_the_initial_word(kind: str, key: str) -> None:
    pipeline = build_pipeline(kind, torch.float32)
    backend = DiffusersBackend(pipeline)
    rest: Any = dict(batch_size=2, resolution=64, evaluate_every=0, warmup_steps=0, learning_rate=0.1)
    config = TrainConfig(steps=3, initial_words="cat", train_encoders=(key,), **rest)
    pictures = list(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    record = list(train(backend, encode_training_set(backend, pictures, config), config))[-1].record
    words = {other: row_of(pipeline, number, "cat")[0] for other, number in PLACES[kind].items()}
    assert torch.equal(record.trajectory[0][key], words[key])
    for step, vectors in record.trajectory.items():
        assert {k for k, rows in vectors.items() if not torch.equal(rows, words[k])} == ({key} if step else set())
    # Each encoder alone: the others' share of the conditioning is that of the plain word
    asked: list[tuple[str, Tensor]] = []
    for name, number in PLACES[kind].items():
        encoder: Any = backend._text[name].network
        handle = encoder.register_forward_hook(lambda *call, name=name: asked.append((name, call[2][0].detach())))
        backend.encode(["a photo of S*"], {"S*": record.trajectory[len(record.losses)]}, differentiable=False)
        handle.remove()
        ids = getattr(pipeline, f"tokenizer{number}")(
            "a photo of cat", padding="max_length", max_length=backend._text[name].tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids  # fmt: skip
        with torch.no_grad():
            plain = getattr(pipeline, f"text_encoder{number}")(ids, output_hidden_states=True)[0]
        assert torch.equal(asked[-1][1], plain) is (name != key)


def test_an_error_in_the_text_leaves_no_word_behind() -> None:
    pipeline = build_pipeline("sdxl")
    backend = DiffusersBackend(pipeline)
    vectors = draw_vectors(backend)
    with pytest.raises(ValueError, match="width 5"):
        backend.encode(["a S*"], {"S*": {**vectors, "clip_g": draw(1, 5)}}, differentiable=False)
    cond = backend.encode(["a S*"], {}, differentiable=False).cond.rows()
    assert torch.equal(cond["hidden"], encoded_by_pipeline("sdxl", pipeline, ["a S*"])[0])


def test_a_word_of_sdxl_is_the_same_word_in_diffusers(tmp_path: Path) -> None:
    """What is saved for diffusers, loaded by diffusers, gives bit for bit the conditioning that was trained."""
    pipeline = build_pipeline("sdxl", torch.float32, widths=(768, 1280))
    backend = DiffusersBackend(pipeline)
    word = TokenEmbedding({key: rows.float() for key, rows in draw_vectors(backend, 2).items()}, "<cat>")
    cond = backend.encode(["a photo of <cat>"], {"<cat>": word.vectors}, differentiable=False).cond.rows()
    files = save_embedding(word, tmp_path / "learned_embeds.safetensors", program="diffusers")
    for number, file in zip(("", "_2"), files, strict=True):
        parts = {name: getattr(pipeline, f"{name}{number}") for name in ("tokenizer", "text_encoder")}
        # A new id would be the greatest, by which CLIP would find the end of the text
        parts["text_encoder"].eos_token_id = pipeline.tokenizer.eos_token_id
        if number:
            parts["text_encoder"].text_model.eos_token_id = pipeline.tokenizer.eos_token_id
        pipeline.load_textual_inversion(str(file), **parts)
    hidden, pooled = encoded_by_pipeline("sdxl", pipeline, ["a photo of <cat>"])
    assert torch.equal(cond["hidden"], hidden)
    assert torch.equal(cond["pooled"], pooled)
