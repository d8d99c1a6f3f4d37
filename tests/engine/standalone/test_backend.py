"""DiffusersBackend through real diffusers and transformers modules, small and with random weights, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from small_models import WIDTH, Parts, build, draw, small_unet

from ti_engine import TokenEmbedding, TrainConfig, encode_training_set, train
from ti_engine.demo.tokenizer import DemoTokenizer
from ti_engine.training.loss import sample_losses
from ti_engine.training.samples import Samples
from ti_engine.word.placeholder import split_at_placeholder


def written_out_loss(parts: Parts, latents: Tensor, noise: Tensor, timesteps: Tensor, hidden: Tensor) -> Tensor:
    """The loss as training scripts for diffusers compute it, [B]."""
    noisy = parts.scheduler.add_noise(latents, noise, timesteps)
    velocity = parts.scheduler.config.prediction_type == "v_prediction"
    target = parts.scheduler.get_velocity(latents, noise, timesteps) if velocity else noise
    with torch.no_grad():
        out = parts.unet(noisy, timesteps, encoder_hidden_states=hidden).sample
    return (out - target).square().flatten(1).mean(1)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_loss_is_that_of_the_scheduler(prediction: str) -> None:
    parts = build(prediction)
    backend = parts.backend()
    timesteps = torch.tensor([0, 1, 250, 700, 999])
    latents, noise = draw(5, 4, 4, 4), draw(5, 4, 4, 4, seed=2)
    captions = ["a photo of S*"] * 5
    vectors = {"clip_l": draw(2, WIDTH, seed=3)}
    cond = backend.encode(captions, {"S*": vectors}, differentiable=False).cond
    with torch.no_grad():
        ours = sample_losses(backend, Samples(latents, noise, backend.schedule.sigmas[timesteps], []), cond)
    theirs = written_out_loss(parts, latents, noise, timesteps, cond.rows()["hidden"])
    # diffusers takes its square roots of alpha in float32, and at time step 0 the noise is a 34th of the data
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_denoised_is_the_schedulers_own_estimate(prediction: str) -> None:
    parts = build(prediction)
    backend = parts.backend()
    timestep = 400
    latents, noise = draw(1, 4, 4, 4), draw(1, 4, 4, 4, seed=2)
    cond = backend.encode(["a photo"], {"S*": {"clip_l": draw(1, WIDTH)}}, differentiable=False).cond
    sigma = backend.schedule.sigmas[[timestep]]
    with torch.no_grad():
        ours = backend.denoise(latents + sigma * noise, sigma, cond)
        noisy = parts.scheduler.add_noise(latents, noise, torch.tensor([timestep]))
        out = parts.unet(noisy, timestep, encoder_hidden_states=cond.rows()["hidden"]).sample
    parts.scheduler.set_timesteps(1000)
    theirs = parts.scheduler.step(out, timestep, noisy).pred_original_sample
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("num_vectors", [1, 2])
@pytest.mark.parametrize("caption", ["a photo of S*", "S* left of a S* , on a red background"])
def test_gradient_is_that_of_finite_differences(prediction: str, num_vectors: int, caption: str) -> None:
    backend = build(prediction).backend()
    latents, noise = draw(3, 4, 4, 4), draw(3, 4, 4, 4, seed=2)
    sigma = backend.schedule.sigmas[[100, 500, 900]]
    captions = [caption, "a rendering of the S*", caption]
    vectors = (0.3 * draw(num_vectors, WIDTH, seed=3)).requires_grad_(True)

    def loss(rows: Tensor) -> float:
        with torch.no_grad():
            cond = backend.encode(captions, {"S*": {"clip_l": rows}}, differentiable=False).cond
            return float(sample_losses(backend, Samples(latents, noise, sigma, []), cond).mean())

    encoded = backend.encode(captions, {"S*": {"clip_l": vectors}}, differentiable=True)
    sample_losses(backend, Samples(latents, noise, sigma, []), encoded.cond).mean().backward()
    assert vectors.grad is None  # the encoder's graph is apart until backward() joins them
    encoded.backward()
    assert vectors.grad is not None
    h = 1e-4
    numeric = torch.zeros_like(vectors)
    for place in range(vectors.numel()):
        change = torch.zeros(vectors.numel(), dtype=torch.float64)
        change[place] = h
        step = change.reshape(vectors.shape)
        base = vectors.detach()
        # the five-point formula: its error is of order h^4
        near, far = loss(base + step) - loss(base - step), loss(base + 2 * step) - loss(base - 2 * step)
        numeric.view(-1)[place] = (8 * near - far) / (12 * h)
    error = (vectors.grad - numeric).norm() / numeric.norm()
    assert error < 1e-6, float(error)


def test_encoding_a_vocabulary_word_by_its_vector_changes_nothing() -> None:
    parts = build()
    backend = parts.backend()
    table = parts.text_encoder.get_input_embeddings().weight
    row = DemoTokenizer()("circle")["input_ids"][1]
    own = backend.encode(["a S* on a S*'s"], {"S*": {"clip_l": table[[row]]}}, differentiable=False).cond.rows()[
        "hidden"
    ]
    plain = backend.encode(
        ["a circle on a circle's"], {"S*": {"clip_l": table[[row]]}}, differentiable=False
    ).cond.rows()["hidden"]
    assert torch.equal(own, plain)


def test_captions_that_repeat_are_encoded_once() -> None:
    backend = build().backend()
    cond = backend.encode(["a S*", "the S*", "a S*"], {"S*": {"clip_l": draw(1, WIDTH)}}, differentiable=True).cond
    assert len(cond.tensors["hidden"]) == 2
    assert torch.equal(cond.rows()["hidden"][0], cond.rows()["hidden"][2])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a S*, (S*) S*'s", ["a ", ", (", ") ", "'s"]),
        ("US* S*2 S** S*s", ["US* S*2 S** S*s"]),
        ("S*", ["", ""]),
    ],
)
def test_only_whole_placeholders_count(text: str, parts: list[str]) -> None:
    assert split_at_placeholder(text, "S*") == parts


def test_a_text_that_does_not_fit_is_said() -> None:
    backend = build().backend()
    with pytest.raises(ValueError, match="the model takes 30"):
        backend.encode(["a S* " * 8], {"S*": {"clip_l": draw(3, WIDTH)}}, differentiable=False)


def test_captions_that_do_not_fit_are_found_without_encoding() -> None:
    backend = build().backend()
    assert backend.rows_read(["a photo of S*", "a S* " * 7], "S*", 3) == {"clip_l": [{0, 1, 2}, {0, 1, 2}]}
    with pytest.raises(ValueError, match=r"has 32 tokens with 3 for each S\*; the model takes 30"):
        backend.rows_read(["a photo of S*", "a S* " * 8], "S*", 3)


def test_autoencoder_gives_the_posterior_in_the_models_scale() -> None:
    parts = build()
    pictures = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    encoded = parts.backend().encode_pictures(pictures)
    with torch.no_grad():
        posterior = parts.autoencoder.encode((pictures * 2 - 1).double()).latent_dist
    scale = parts.autoencoder.config.scaling_factor
    torch.testing.assert_close(encoded.mean, posterior.mean * scale)
    torch.testing.assert_close(encoded.deviation, posterior.std * scale)
    encoded = build(tiny=True).backend().encode_pictures(pictures)
    assert encoded.mean.shape == (5, 4, 4, 4)
    assert not encoded.deviation.any()


def test_training_is_repeatable_and_leaves_the_models_alone() -> None:
    parts = build("v_prediction", torch.float32, tiny=True)
    modules = (parts.unet, parts.text_encoder, parts.autoencoder)
    parts.unet.train(True)
    before = [{name: tensor.clone() for name, tensor in module.state_dict().items()} for module in modules]
    pictures = list(torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    config = TrainConfig(steps=3, batch_size=4, resolution=64, evaluate_every=1, num_vectors=2)

    def learn() -> list[Tensor]:
        backend = parts.backend()
        dataset = encode_training_set(backend, pictures, config)
        steps = list(train(backend, dataset, config))
        backend.sample("a photo of S*", steps[-1].record.embedding(), seed=0, resolution=32, steps=2)
        return [state["clip_l"] for state in steps[-1].record.trajectory.values()]

    first, second = learn(), learn()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[-1])
    for module, state in zip(modules, before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
        assert all(p.requires_grad and p.grad is None for p in module.parameters())
        assert not any(m._forward_hooks for m in module.modules())
    assert parts.unet.training


def test_the_word_is_gone_after_an_error() -> None:
    backend = build().backend()
    plain = backend.encode(["a S*"], {}, differentiable=False).cond.rows()["hidden"]
    with pytest.raises(ValueError, match="width"):
        backend.encode(["a S*"], {"S*": {"clip_l": draw(1, WIDTH + 1)}}, differentiable=False)
    with pytest.raises(ValueError, match="Shorten"):
        backend.encode(["a S*" * 40], {"S*": {"clip_l": draw(1, WIDTH)}}, differentiable=False)
    assert torch.equal(backend.encode(["a S*"], {}, differentiable=False).cond.rows()["hidden"], plain)


def test_samples_depend_on_their_seed_alone() -> None:
    backend = build("v_prediction", torch.float32, tiny=True).backend()
    word = TokenEmbedding({"clip_l": draw(1, WIDTH).float()})
    state = torch.get_rng_state()
    pair = backend.generate(["a S*", "a red S*"], {word.placeholder: word.vectors}, [3, 4], 32, steps=3)
    alone = backend.sample("a red S*", word, 4, 32, steps=3)
    assert pair.shape == (2, 3, 32, 32)
    assert float(pair.min()) >= 0 and float(pair.max()) <= 1
    torch.testing.assert_close(pair[1], alone, rtol=0, atol=1e-4)
    assert torch.equal(state, torch.get_rng_state())


def test_words_of_the_vocabulary() -> None:
    backend = build().backend()
    rows = backend.word_vectors("red circle")["clip_l"]
    assert rows.shape == (2, WIDTH)
    assert backend.nearest_words("clip_l", rows[0], 1)[0][0] == "red"
    with pytest.raises(ValueError, match="gloop"):
        backend.word_vectors("red gloop")
    with pytest.raises(ValueError, match="no word"):
        backend.word_vectors(" ")


def test_models_of_other_shapes_are_refused() -> None:
    parts = build()
    other = build()
    other.unet = small_unet(text_width=24)
    with pytest.raises(ValueError, match="do not belong together"):
        other.backend()
    with pytest.raises(ValueError, match="width"):
        parts.backend().sample("S*", TokenEmbedding({"clip_l": torch.ones(1, 5)}), 0, 32)


def test_the_scale_of_the_vocabulary_does_not_hang_on_a_few_rows() -> None:
    parts = build("epsilon")
    table = parts.text_encoder.get_input_embeddings().weight
    clean = parts.backend().encoders["clip_l"]
    with torch.no_grad():
        table[:2] *= 1e4
    outlying = parts.backend().encoders["clip_l"]
    assert outlying.norm == pytest.approx(clean.norm, rel=0.05) and outlying.rms == pytest.approx(clean.rms, rel=0.05)
    assert outlying.scale == pytest.approx(clean.scale, rel=0.05)


def test_words_that_hide_one_another_are_refused() -> None:
    """Two words of 20 vectors each in a window of 30 tokens, of which the second is cut."""
    backend = build().backend()
    backend._text["clip_l"].tokenizer._cuts = True  # as SD3 and Flux, whose T5 reads what CLIP does not
    words = {"A*": {"clip_l": draw(20, WIDTH)}, "B*": {"clip_l": draw(20, WIDTH)}}
    with pytest.raises(ValueError, match=r"clip_l reads 10 of 20 vector\(s\) of B\*"):
        backend.generate(["A* B*"], words, [1], 64, steps=1)
    with pytest.raises(ValueError, match=r"of B\* in the text 'A\* B\*'"):
        backend.generate(["A*"], words, [1], 64, steps=1, negative="A* B*")
    backend.generate(["A*"], words, [1], 64, steps=1)
