import inspect
import math
import sys
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor
from toy import ONE_TEMPLATE, ToyBackend, hidden_set, hidden_word, noisy_set, result_loss, run, same, toy_config

from ti_engine import (
    CaptionSource,
    TokenEmbedding,
    TrainConfig,
    encode_training_set,
    setting_warnings,
    train,
)
from ti_engine.method.prediction import Prediction

TWO_ENCODERS = {"clip_l": 6, "clip_g": 5}


# --- what is learned ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_the_hidden_word_is_found(prediction):
    backend = ToyBackend(prediction)
    record = run(toy_config(steps=200, learning_rate=0.02), backend, hidden_set)
    found, hidden = record.embedding().vectors["clip_l"], hidden_word(backend)["clip_l"]
    assert float((found - hidden).norm() / hidden.norm()) < 0.1
    assert result_loss(record) < 0.1 * record.evaluations[0]


def test_it_is_found_in_every_encoder_together():
    backend = ToyBackend(widths=TWO_ENCODERS)
    record = run(toy_config(steps=200, learning_rate=0.02), backend, hidden_set)
    for key, hidden in hidden_word(backend).items():
        assert float((record.embedding().vectors[key] - hidden).norm() / hidden.norm()) < 0.1


def test_several_vectors_reach_a_loss_as_low_as_one():
    config = {"steps": 150, "learning_rate": 0.02}
    one = run(toy_config(**config), make_set=hidden_set)
    three = run(toy_config(**config, num_vectors=3), make_set=hidden_set)
    assert three.embedding().num_vectors == 3
    assert result_loss(three) < 1.1 * result_loss(one) + 1e-3


def test_one_learning_rate_suits_vocabularies_of_every_scale():
    """One a million times as large, with all else the same, is learned along the same way a million times as large."""
    config = toy_config(steps=50, initial_words="ball")
    small, large = run(config, ToyBackend(rms=0.014)), run(config, ToyBackend(rms=14_000.0))
    for a, b in zip(small.trajectory.values(), large.trajectory.values(), strict=True):
        torch.testing.assert_close(1e6 * a["clip_l"], b["clip_l"], rtol=1e-3, atol=10)


@pytest.mark.parametrize("start", [{}, {"initial_words": "red ball", "num_vectors": 2}])
def test_step_0_is_the_start(start):
    backend = ToyBackend()
    record = run(toy_config(steps=1, **start), backend)
    if start:
        assert torch.equal(record.trajectory[0]["clip_l"], backend.word_vectors("red ball")["clip_l"])
    else:
        assert float(record.trajectory[0]["clip_l"].abs().max()) < 5 * 0.014


def test_a_run_may_start_from_an_embedding_and_leaves_it_as_it_was():
    word = TokenEmbedding(hidden_word(ToyBackend()))
    before = word.copy()
    record = run(toy_config(steps=5), make_set=hidden_set, start=word)
    assert torch.equal(record.trajectory[0]["clip_l"], before.vectors["clip_l"])
    assert torch.equal(word.vectors["clip_l"], before.vectors["clip_l"])
    assert not word.vectors["clip_l"].requires_grad


# --- what is a parameter, and what is not ------------------------------------------------------------------------


def test_only_the_rows_are_parameters(monkeypatch):
    given: list[Tensor] = []
    adamw = torch.optim.AdamW

    def spy(groups, **settings):
        given.extend(tensor for group in groups for tensor in group["params"])
        assert settings["weight_decay"] == 0
        return adamw(groups, **settings)

    monkeypatch.setattr(sys.modules["ti_engine.training.state"].torch.optim, "AdamW", spy)
    run(toy_config(steps=2, num_vectors=3), ToyBackend(widths=TWO_ENCODERS))
    assert sorted(tuple(tensor.shape) for tensor in given) == [(3, 5), (3, 6)]
    assert all(tensor.dtype == torch.float32 for tensor in given)


def test_the_models_are_bit_for_bit_as_before():
    backend = ToyBackend()
    before = [weight.clone() for weight in backend.weights()]
    run(toy_config(), backend)
    for weight, old in zip(backend.weights(), before, strict=True):
        assert torch.equal(weight, old)
        assert weight.grad is None
        assert not weight.requires_grad


def test_nothing_decays_without_a_gradient_of_its_own():
    """Encoders whose text the denoiser ignores keep their vectors exactly: AdamW without weight decay."""
    backend = ToyBackend(widths=TWO_ENCODERS)
    backend.projection[6:] = 0  # clip_g has no effect
    record = run(toy_config(steps=20), backend)
    assert torch.equal(record.trajectory[0]["clip_g"], record.trajectory[len(record.losses)]["clip_g"])
    assert not torch.equal(record.trajectory[0]["clip_l"], record.trajectory[len(record.losses)]["clip_l"])


# --- randomness --------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_vectors_bit_for_bit():
    first, again = run(toy_config(seed=3)), run(toy_config(seed=3))
    assert same(first, again)
    assert first.evaluations == again.evaluations
    assert not same(first, run(toy_config(seed=4)))


def test_the_global_generator_is_neither_used_nor_touched():
    first = run(toy_config())
    torch.manual_seed(12345)
    before = torch.get_rng_state()
    assert same(first, run(toy_config()))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("every", [1, 7, 10])
def test_looking_at_the_evaluation_set_changes_nothing(every):
    """Neither the vectors nor which of them are returned."""
    never = run(toy_config(evaluate_every=0))
    looked = run(toy_config(evaluate_every=every))
    assert same(never, looked)
    assert torch.equal(never.embedding().vectors["clip_l"], looked.embedding().vectors["clip_l"])
    assert sorted(never.evaluations) == [0, 30]
    assert sorted(looked.evaluations) == sorted({*range(0, 31, every), 30})


def test_previews_and_other_work_of_the_caller_change_nothing():
    quiet = run(toy_config())
    backend = ToyBackend()
    last = None
    for last in train(backend, noisy_set(backend), toy_config()):
        picture = backend.sample("a photo of S*", last.record.embedding(), seed=0, resolution=64)
        assert picture.shape == (3, 64, 64)
        torch.randn(3)
    assert last is not None
    assert same(quiet, last.record)


def test_a_shorter_run_with_a_constant_rate_is_the_beginning_of_a_longer_one():
    short, long = (run(toy_config(steps=n, schedule="constant")) for n in (10, 20))
    assert short.losses == long.losses[:10]


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_splitting_a_batch_changes_nothing_but_rounding(parts):
    whole = run(toy_config(), ToyBackend(dtype=torch.float64))
    split = run(toy_config(gradient_accumulation_steps=parts), ToyBackend(dtype=torch.float64))
    assert whole.losses == pytest.approx(split.losses, rel=1e-5)
    for a, b in zip(whole.trajectory.values(), split.trajectory.values(), strict=True):
        torch.testing.assert_close(a["clip_l"], b["clip_l"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"gradient_clip": 0.05}])
def test_the_loss_scale_changes_nothing(changes):
    plain = run(toy_config(**changes), ToyBackend(dtype=torch.float64))
    scaled = run(toy_config(**changes), ToyBackend(dtype=torch.float64, loss_scale=2.0**12))
    assert plain.losses == scaled.losses
    for a, b in zip(plain.trajectory.values(), scaled.trajectory.values(), strict=True):
        torch.testing.assert_close(a["clip_l"], b["clip_l"], rtol=1e-6, atol=0)


def test_a_caption_is_drawn_for_every_sample_of_every_step():
    backend = ToyBackend()
    run(toy_config(steps=40), backend)
    assert len(backend.encoded) == 40 * 8
    assert len(set(backend.encoded)) == 27
    batches = [tuple(backend.encoded[i : i + 8]) for i in range(0, 320, 8)]
    assert len(set(batches)) == 40
    assert all(len(set(batch)) > 1 for batch in batches)


def test_a_placeholder_of_ones_own_is_what_is_learned():
    backend = ToyBackend()
    record = run(toy_config(placeholder="sks"), backend, lambda b: hidden_set(b, "sks"))
    assert set(backend.encoded) == {"a photo of sks"}
    assert record.embedding().placeholder == "sks"


# --- the learning rate -------------------------------------------------------------------------------------------


def test_the_rate_of_a_step_is_the_one_of_the_settings():
    backend = ToyBackend(rms=0.5)
    config = toy_config(steps=3, learning_rate=0.02, warmup_steps=1, schedule="constant")
    rates = [step.learning_rate for step in train(backend, noisy_set(backend), config)]
    assert rates == pytest.approx([0, 0.01, 0.02, 0.02])


def test_the_first_update_of_adam_is_as_long_as_the_rate():
    """At its first step Adam moves every coordinate by the learning rate, whatever the gradient."""
    record = run(toy_config(steps=1, learning_rate=0.001, warmup_steps=0), ToyBackend(rms=0.014))
    moved = (record.trajectory[1]["clip_l"] - record.trajectory[0]["clip_l"]).abs()
    scale = ToyBackend(rms=0.014).encoders["clip_l"].scale
    torch.testing.assert_close(moved, torch.full_like(moved, 0.001 * scale), rtol=1e-2, atol=0)


def gradient_lengths(monkeypatch, backend: ToyBackend, **settings) -> list[float]:
    """Of every update, for vocabularies of SD1's scale."""
    lengths = []
    step = torch.optim.AdamW.step

    def spy(self, *args):
        rows = [group["params"][0].grad * group["scale"] for group in self.param_groups]
        lengths.append(float(torch.cat([r.flatten() for r in rows]).norm()))
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", spy)
        run(toy_config(**settings), backend)
    return lengths


def test_a_clip_bounds_the_gradient_of_all_encoders_together(monkeypatch):
    free = gradient_lengths(monkeypatch, ToyBackend(widths=TWO_ENCODERS))
    limit = sorted(free)[15]
    clipped = gradient_lengths(monkeypatch, ToyBackend(widths=TWO_ENCODERS), gradient_clip=limit)
    assert max(free) > 1.01 * limit
    assert max(clipped) < 1.001 * limit


def test_a_clip_does_the_same_for_a_vocabulary_of_another_scale():
    """One a thousand times as large has gradients a thousand times as small."""
    config = toy_config(gradient_clip=0.05, initial_words="ball")
    small, large = run(config, ToyBackend(rms=0.014)), run(config, ToyBackend(rms=14.0))
    free = run(toy_config(initial_words="ball"), ToyBackend(rms=0.014))
    assert not same(small, free)
    for a, b in zip(small.trajectory.values(), large.trajectory.values(), strict=True):
        torch.testing.assert_close(1e3 * a["clip_l"], b["clip_l"], rtol=1e-3, atol=1e-2)


# --- the shape of a run ------------------------------------------------------------------------------------------


def test_a_step_is_told_before_the_first_and_after_every_update():
    backend = ToyBackend()
    steps = list(train(backend, noisy_set(backend), toy_config(steps=5)))
    assert [step.index for step in steps] == [0, 1, 2, 3, 4, 5]
    assert math.isnan(steps[0].loss)
    record = steps[-1].record
    assert record.losses == [step.loss for step in steps[1:]]
    assert len(record.trajectory) == 6
    assert record.stopped is None


def test_the_trajectory_is_a_copy_of_every_state():
    backend = ToyBackend()
    seen = [s.record.embedding(s.index).vectors["clip_l"] for s in train(backend, noisy_set(backend), toy_config())]
    record = run(toy_config())
    assert all(torch.equal(a, b["clip_l"]) for a, b in zip(seen, record.trajectory.values(), strict=True))
    record.embedding(0).vectors["clip_l"] += 1
    assert torch.equal(seen[0], record.trajectory[0]["clip_l"])


def test_a_caller_may_stop_at_any_step_and_keeps_everything():
    backend = ToyBackend()
    steps = train(backend, noisy_set(backend), toy_config())
    step = next(step for step in steps if step.index == 3)
    steps.close()
    assert len(step.record.losses) == 3
    assert step.record.embedding(3).num_vectors == 1


def test_settings_that_do_not_fit_are_refused_before_any_work():
    backend = ToyBackend()
    with pytest.raises(ValueError, match="num_vectors is 9"):
        next(train(backend, noisy_set(backend), toy_config(num_vectors=9)))
    assert backend.denoised == 0


def test_the_loop_is_a_generator_and_leaves_the_callers_modes_alone():
    assert inspect.isgeneratorfunction(train)
    backend = ToyBackend()
    for _ in train(backend, noisy_set(backend), toy_config(steps=2)):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_pictures_become_a_word_by_the_front_door():
    backend = ToyBackend()
    config = toy_config(what="custom", templates=ONE_TEMPLATE, initial_words="ball")
    pictures = [torch.rand(3, 80, 100, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    dataset = encode_training_set(backend, pictures, config)
    steps = list(train(backend, dataset, config))
    record = steps[-1].record
    word = record.embedding()
    assert result_loss(record) < record.evaluations[0]
    assert word.num_vectors == 1


# --- ends that come early ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("evaluate_every", [0, 1])
def test_a_loss_that_is_no_number_ends_the_run_with_the_last_good_vectors(evaluate_every):
    looks = 3  # passes of the evaluation set in each look: 24 samples in batches of 8
    breaks_at = 6 + looks if evaluate_every == 0 else 6 + 6 * looks
    backend = ToyBackend(breaks_at=breaks_at)
    steps = list(train(backend, noisy_set(backend), toy_config(evaluate_every=evaluate_every)))
    record = steps[-1].record
    good = run(toy_config(steps=5, schedule="constant"))
    assert record.stopped == "The loss became nan at step 6; the vectors from before are kept. Lower the learning rate."
    assert [step.index for step in steps] == [0, 1, 2, 3, 4, 5]
    assert len(record.losses) == 5
    assert len(record.trajectory) == len(good.trajectory) == 6
    assert all(bool(state["clip_l"].isfinite().all()) for state in record.trajectory.values())
    assert record.returned[-1] <= 4  # the state after step 5 is the one that gave NaN
    assert record.embedding().num_vectors == 1


def test_a_model_that_never_gives_a_number_is_not_blamed_on_the_learning_rate():
    record = run(toy_config(), ToyBackend(breaks_at=1))
    assert record.stopped is not None
    assert "at step 1" in record.stopped
    assert "float16" in record.stopped
    assert "learning rate" not in record.stopped
    assert record.returned == range(1)
    assert record.embedding().num_vectors == 1


def test_a_scaled_gradient_that_overflows_is_computed_again_from_the_same_draws():
    """2 ** 140 overflows float32; 2 ** 120 and less do not."""
    plain = run(toy_config(), ToyBackend())
    scaled = run(toy_config(), ToyBackend(loss_scale=2.0**140))
    assert scaled.stopped is None
    assert plain.losses == scaled.losses
    for a, b in zip(plain.trajectory.values(), scaled.trajectory.values(), strict=True):
        torch.testing.assert_close(a["clip_l"], b["clip_l"], rtol=1e-5, atol=0)


def test_a_gradient_that_overflows_at_every_scale_ends_the_run(monkeypatch):
    backend = ToyBackend()
    denoise = backend.denoise

    def steep(noisy, sigma, cond, inpainting=None):
        answer = denoise(noisy, sigma, cond)
        if answer.requires_grad:
            answer.register_hook(lambda gradient: gradient * torch.inf)
        return answer

    monkeypatch.setattr(backend, "denoise", steep)
    record = run(toy_config(evaluate_every=0), backend)
    assert record.stopped is not None
    assert "The gradient is not finite at step 1" in record.stopped
    assert record.losses == []


@pytest.mark.parametrize("cut", [False, True])
def test_a_gradient_that_is_exactly_zero_ends_the_run_with_the_cause(cut, monkeypatch):
    """Also where the host cuts the graph, so that there is no gradient at all."""
    backend = ToyBackend(deaf=not cut)
    denoise = backend.denoise
    if cut:
        monkeypatch.setattr(backend, "denoise", lambda *given: denoise(*given).detach())
    record = run(toy_config(), backend)
    assert record.stopped is not None
    assert "exactly zero" in record.stopped
    assert "does not reach the model" in record.stopped
    assert record.losses == []
    assert len(record.trajectory) == 1


def test_encoders_that_are_not_trained_keep_the_initial_word():
    backend = ToyBackend(widths={"clip_l": 6, "clip_g": 8})
    record = run(toy_config(train_encoders=("clip_g",), initial_words="red"), backend)
    word = backend.word_vectors("red")
    for vectors in record.trajectory.values():
        assert torch.equal(vectors["clip_l"], word["clip_l"])
    assert not torch.equal(record.trajectory[len(record.losses)]["clip_g"], word["clip_g"])
    both = run(toy_config(initial_words="red"), ToyBackend(widths={"clip_l": 6, "clip_g": 8}))
    assert not torch.equal(both.trajectory[len(both.losses)]["clip_l"], word["clip_l"])


def test_an_encoder_that_the_model_has_not_is_named():
    with pytest.raises(ValueError, match="names t5xxl; this model has clip_l"):
        run(toy_config(train_encoders=("clip_l", "t5xxl"), initial_words="red"), ToyBackend())


@pytest.mark.parametrize("train_encoders", [("clip_l",), ("t5xxl",)])
def test_encoders_that_cannot_be_trained_are_told_before_the_run(train_encoders):
    backend, config = ToyBackend(widths=TWO_ENCODERS), toy_config(train_encoders=train_encoders)
    for begin in (lambda: run(config, backend), lambda: setting_warnings(backend, config, 4)):
        with pytest.raises(ValueError, match=r"train_encoders needs initial_words|names t5xxl"):
            begin()
    assert backend.denoised == 0


def test_encoders_that_are_not_trained_keep_the_vectors_to_start_from():
    backend, config = ToyBackend(widths=TWO_ENCODERS), toy_config(train_encoders=("clip_l",))
    start = TokenEmbedding({key: torch.randn(1, width) for key, width in TWO_ENCODERS.items()})
    assert setting_warnings(backend, config, 4, start) == []
    learned = run(config, backend, start=start).trajectory[config.steps]
    assert torch.equal(learned["clip_g"], start.vectors["clip_g"])
    assert not torch.equal(learned["clip_l"], start.vectors["clip_l"])


def test_all_encoders_named_are_none_that_need_a_word_to_see():
    every = run(toy_config(train_encoders=("clip_l", "clip_g")), ToyBackend(widths=TWO_ENCODERS))
    assert same(every, run(toy_config(), ToyBackend(widths=TWO_ENCODERS)))


def test_the_models_own_resolution_is_the_default():
    pictures = [torch.rand(3, 90, 70)]
    dataset = encode_training_set(ToyBackend(resolution=128), pictures, TrainConfig())
    assert dataset.mean.shape[-2:] == (16, 16)


@pytest.mark.parametrize(
    ("text", "num_vectors"), [("a photo of {} " + "red " * 30, 1), ("a photo of {}, {}, {} and {}", 8)]
)
def test_a_caption_that_does_not_fit_is_said_before_anything_is_learned(text: str, num_vectors: int) -> None:
    backend = ToyBackend()
    config = toy_config(num_vectors=num_vectors)
    captions = CaptionSource("S*", ["a photo of {}"] * 60 + [text])
    dataset = replace(hidden_set(backend), captions=captions)
    with pytest.raises(ValueError, match="does not fit"):
        next(train(backend, dataset, config))
    assert backend.denoised == 0
