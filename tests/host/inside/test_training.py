"""A run of the Train node, and what it leaves behind."""

from __future__ import annotations

import json
import math
import weakref
from contextlib import nullcontext

import comfy.model_management
import comfy.sample
import pytest
import torch
from in_host import plugin
from loss_problem import Problem

# Beside these a module holds the host's book-keeping of what is loaded, which changes whenever it makes room.
FLAGS = ("training", "comfy_cast_weights", "layer", "layer_idx", "return_projected_pooled", "execution_device", "dtype")


def snapshot(models):
    """Every parameter, buffer, flag and hook of the three models: identity and bits."""
    state = {}
    for name, root in enumerate((models.model.model, models.clip.cond_stage_model, models.vae.first_stage_model)):
        for path, module in root.named_modules():
            tensors = {**module._parameters, **module._buffers}
            for key, t in tensors.items():
                if t is not None:
                    bits = t.detach().clone()
                    state[name, path, key] = (id(t), t.data_ptr(), t.requires_grad, t.is_inference(), t.device, bits)
            flags = {k: vars(module).get(k) for k in FLAGS}
            hooks = {k: len(v) for k, v in vars(module).items() if k.endswith("_hooks")}
            state[name, path, "flags"] = (flags, hooks, None)
    for name, owner in (("model", models.model), ("clip", models.clip.patcher)):
        state[name] = (repr(owner.model_options), len(owner.patches), len(owner.object_patches))
    state["in_training"] = getattr(comfy.model_management, "in_training", False)
    return state


def assert_same(before, after):
    assert before.keys() == after.keys()
    for key, value in before.items():
        *facts, bits = value if isinstance(value, tuple) else (value, None)
        *now, bits_now = after[key] if isinstance(after[key], tuple) else (after[key], None)
        assert facts == now, key
        assert torch.equal(bits, bits_now) if torch.is_tensor(bits) else bits == bits_now, key


@torch.inference_mode()
def ksampler(models):
    positive, negative = (models.clip.encode_from_tokens_scheduled(models.clip.tokenize(t)) for t in ("a circle", ""))
    noise = comfy.sample.prepare_noise(torch.zeros(1, 4, 8, 8), 7)
    latent = comfy.sample.sample(
        models.model, noise, 3, 3.0, "euler", "normal", positive, negative, torch.zeros(1, 4, 8, 8), disable_pbar=True,
        seed=7,
    )  # fmt: skip
    return models.vae.decode(latent)


def vectors(result):
    return result[0].vectors["clip_l"]


def test_what_comes_out(train):
    embedding, plot, samples, report, _ = train(preview_every=[2], num_vectors=[2])
    rows = embedding.vectors["clip_l"]
    assert rows.shape == (2, 128) and rows.dtype == torch.float32 and not rows.requires_grad
    assert plot.shape == (1, 432, 768, 3)
    assert samples.shape[1:] == (64, 64, 3) and len(samples) >= 2 and samples.min() >= 0 and samples.max() <= 1
    assert "S*: 2 vector(s)" in report and "DemoSD, clip_l, v_prediction, float32 on cpu" in report
    assert "textual_inversion" in embedding.metadata


def test_the_same_seed_gives_the_same_bits(train):
    first = vectors(train())
    torch.rand(3)  # the global generator does not matter
    assert torch.equal(first, vectors(train()))
    assert torch.equal(first, vectors(train(preview_every=[1])))
    assert not torch.equal(first, vectors(train(seed=[4])))


def test_a_word_can_be_held_at_the_length_of_a_word(train, backend):
    result = train(options=[{"norm": "vocabulary", "warmup_steps": 0}])
    expected = torch.tensor(backend.encoders["clip_l"].norm)
    torch.testing.assert_close(vectors(result).norm(dim=1), expected.expand(1), rtol=1e-5, atol=0)
    assert not torch.equal(vectors(result), vectors(train()))
    again = train(anew=False, options=[{"norm": "vocabulary", "warmup_steps": 0}])
    assert not torch.equal(vectors(again), vectors(train(anew=False)))  # each setting has a run of its own


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("asked", ["", "2"])
def test_the_demo_model_computes_with_one_thread_unless_more_are_asked_for(train, monkeypatch, asked, breaks):
    seen, backend = set(), plugin("nodes.host.loan.lent_backend")
    denoise = backend.denoise

    def watched(*arguments):
        seen.add(torch.get_num_threads())
        if breaks and len(seen) == 1:
            raise KeyError("broken")
        return denoise(*arguments)

    monkeypatch.setattr(backend, "denoise", watched)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError) if breaks else nullcontext():
            train(steps=[1])
        assert seen == {2 if asked else 1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_two_threads_on_a_busy_machine_give_the_same_bits(train, busy_machine, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # or the demo model would compute with one
    torch.set_num_threads(2)
    try:
        # The batch is large enough that torch divides the work between its threads.
        several = dict(steps=[4], batch_size=[8], num_vectors=[2])
        first, *others = [vectors(train(**several)) for _ in range(3)]
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(first, other) for other in others)


def test_training_leaves_the_global_generator_alone(train):
    torch.manual_seed(1)
    want = torch.rand(1)
    torch.manual_seed(1)
    train(preview_every=[1])
    assert torch.equal(torch.rand(1), want)


def test_everything_is_given_back(models, train):
    picture = ksampler(models)
    before = snapshot(models)
    train(preview_every=[2])
    assert_same(before, snapshot(models))
    assert torch.equal(ksampler(models), picture)


@pytest.mark.parametrize("place", ["between the steps", "in the UNet", "in a preview"])
def test_everything_is_given_back_after_an_error(models, train, monkeypatch, place):
    picture = ksampler(models)
    before = snapshot(models)
    fail_at(monkeypatch, place, RuntimeError("broken on purpose"))
    with pytest.raises(RuntimeError, match="on purpose"):
        train(preview_every=[2])
    monkeypatch.undo()
    assert_same(before, snapshot(models))
    assert torch.equal(ksampler(models), picture)


def test_cancel_takes_effect_within_a_step(models, train, monkeypatch):
    picture = ksampler(models)
    before = snapshot(models)
    progress = plugin("nodes.host.page.progress").RunProgress
    original, seen = progress.step, []

    def step(self, step):
        seen.append(step.index)
        original(self, step)
        if step.index == 1:
            comfy.model_management.interrupt_current_processing(True)

    monkeypatch.setattr(progress, "step", step)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        train(steps=[50])
    assert seen == [0, 1]
    monkeypatch.undo()
    assert_same(before, snapshot(models))
    assert torch.equal(ksampler(models), picture)


def fail_at(monkeypatch, place, error):
    def fail(*_, **__):
        raise error

    if place == "between the steps":
        progress = plugin("nodes.host.page.progress").RunProgress
        monkeypatch.setattr(progress, "step", lambda self, step: fail() if step.index == 2 else None)
    elif place == "in the UNet":
        monkeypatch.setattr(plugin("nodes.host.denoiser"), "attention_pytorch", fail)
    else:
        monkeypatch.setattr(plugin("nodes.host.sampling").comfy.sample, "sample", fail)


def test_a_lora_is_trained_with_and_still_there_afterwards(models, train):
    """Patched weights take part, and the unpatched ones come back when the host takes the patch off."""
    key = "diffusion_model.middle_block.1.proj_in.weight"
    base = models.model.model.state_dict()[key].clone()
    delta = torch.full_like(base, 0.1)
    plain = vectors(train())
    patched = models.model.clone()
    patched.add_patches({key: ("diff", (delta,))})
    assert not torch.equal(vectors(train(model=[patched])), plain)
    with torch.inference_mode():
        comfy.model_management.load_models_gpu([models.model])
    assert torch.equal(models.model.model.state_dict()[key], base)


def test_clip_skip_is_obeyed(models, train):
    plain = vectors(train())
    models.clip.clip_layer(-2)
    assert not torch.equal(vectors(train()), plain)


def test_a_loss_of_nan_keeps_the_last_good_vectors(train, monkeypatch):
    backend, progress = plugin("nodes.host.loan.lent_backend"), plugin("nodes.host.page.progress").RunProgress
    denoise, steps = backend.denoise, []
    monkeypatch.setattr(progress, "step", lambda self, step: steps.append(step.index))
    monkeypatch.setattr(backend, "denoise", lambda *args: denoise(*args) * (math.nan if steps[-1:] == [2] else 1))
    result = train(steps=[6])
    assert bool(vectors(result).isfinite().all()) and "Lower the learning rate" in result[3]
    assert "learned in 2 of at most 6 steps" in result[3]


def test_a_loss_of_nan_in_the_first_step_is_one_sentence(models, train, monkeypatch):
    ksampler(models)  # the host keeps the device of its last run in the text encoder
    backend, before = plugin("nodes.host.loan.lent_backend"), snapshot(models)
    denoise = backend.denoise
    monkeypatch.setattr(backend, "denoise", lambda *args: denoise(*args) * math.nan)
    with pytest.raises(ValueError, match=r"loss became nan at step 1.*float32 or bfloat16"):
        train()
    assert_same(before, snapshot(models))


def test_a_gradient_of_zero_is_one_sentence(train, monkeypatch):
    backend = plugin("nodes.host.loan.lent_backend")
    denoise = backend.denoise
    monkeypatch.setattr(backend, "denoise", lambda *args: denoise(*args).detach())
    with pytest.raises(ValueError, match=r"gradient of the word is exactly zero.*does not reach the model"):
        train()


@pytest.mark.parametrize("at", [1, 4])
def test_a_full_memory_keeps_what_was_learned(models, train, monkeypatch, at):
    """Nothing was learned before the first update: an error; after it: the word, and the reason in the report."""
    picture, before = ksampler(models), snapshot(models)
    backend, progress = plugin("nodes.host.loan.lent_backend"), plugin("nodes.host.page.progress").RunProgress
    steps = []
    denoise = backend.denoise

    def full(*args):
        if torch.is_grad_enabled() and len(steps) >= at:
            raise comfy.model_management.OOM_EXCEPTION("out of memory, on purpose")
        return denoise(*args)

    monkeypatch.setattr(progress, "step", lambda self, step: steps.append(step.index))
    monkeypatch.setattr(backend, "denoise", full)
    if at == 1:
        with pytest.raises(ValueError, match=r"memory of cpu does not hold a step.*Lower resolution"):
            train(steps=[6])
    else:
        result = train(steps=[6])
        assert "There was no memory for step 4" in result[3] and bool(vectors(result).isfinite().all())
    monkeypatch.undo()
    assert_same(before, snapshot(models))
    assert torch.equal(ksampler(models), picture)


def test_models_that_do_not_fit_while_they_are_loaded(train, monkeypatch):
    def full(*_, **__):
        raise comfy.model_management.OOM_EXCEPTION("out of memory, on purpose")

    monkeypatch.setattr(plugin("nodes.host.loan.borrow").memory, "load_models_gpu", full)
    monkeypatch.setattr(plugin("nodes.host.backend").HostBackend, "encode_pictures", lambda _, pictures: (
        plugin("ti_engine.training.backend").EncodedPictures(*torch.zeros(2, len(pictures), 4, 8, 8))
    ))  # fmt: skip
    with pytest.raises(ValueError, match=r"memory of cpu does not hold a step.*Lower resolution"):
        train()


def test_a_preview_without_memory_does_not_end_the_run(models, train, monkeypatch):
    ksampler(models)
    before = snapshot(models)

    held, there_when_taken = [], []

    def full(*_, **__):
        picture = torch.ones(1)
        held.append(weakref.ref(picture))
        raise comfy.model_management.OOM_EXCEPTION("out of memory, on purpose")

    loan = plugin("nodes.host.loan.borrow").Loan
    take = loan._take
    plain = vectors(train())
    monkeypatch.setattr(plugin("nodes.host.sampling").comfy.sample, "sample", full)
    monkeypatch.setattr(loan, "_take", lambda self: (there_when_taken.extend(one() for one in held), take(self)))
    result = train(preview_every=[1])
    assert torch.equal(vectors(result), plain)
    assert "Warning: There was no memory for the previews at steps 0, 1, 2 and 3." in result[3]
    assert there_when_taken and set(there_when_taken) == {None}  # its memory is free for what training needs
    assert_same(before, snapshot(models))


def test_pictures_of_different_sizes_from_several_sockets(train):
    generator = torch.Generator().manual_seed(0)
    one, two = torch.rand(1, 64, 80, 3, generator=generator), torch.rand(2, 96, 64, 3, generator=generator)
    together = vectors(train(images=[one, two]))
    assert torch.equal(vectors(train(images=[one], images_3=[two])), together)
    assert not torch.equal(vectors(train(images=[one])), together)


def test_what_is_not_called_in_training_is_said(models, train):
    patched = models.model.clone()
    patched.set_model_unet_function_wrapper(lambda apply, args: apply(args["input"], args["timestep"], **args["c"]))
    assert (
        "Warning: The model carries model_function_wrapper, which training does not call." in train(model=[patched])[3]
    )


def test_float16_is_trained_with_a_scaled_loss(models):
    backend = plugin("nodes.host.backend").HostBackend
    assert backend(*models).loss_scale == 1
    models.model.model.manual_cast_dtype = torch.float16
    try:
        assert backend(*models).loss_scale == plugin("ti_engine.training.gradients").FLOAT16_LOSS_SCALE > 1
    finally:
        models.model.model.manual_cast_dtype = None


def test_a_picture_that_does_not_fit_is_encoded_in_tiles(models, backend, monkeypatch):
    """The host's own way out, which training relies on."""
    pictures = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    whole = backend.encode_pictures(pictures).mean
    encode, calls = models.vae.first_stage_model.encode, []

    def full_at_first(*args, **kwargs):
        calls.append(args)
        if len(calls) == 1:
            raise comfy.model_management.OOM_EXCEPTION("out of memory")
        return encode(*args, **kwargs)

    monkeypatch.setattr(models.vae.first_stage_model, "encode", full_at_first)
    tiled = backend.encode_pictures(pictures).mean
    assert len(calls) > 1
    torch.testing.assert_close(tiled, whole, rtol=1e-3, atol=1e-3)


def test_memory_that_runs_out_in_the_model_ends_no_run(models, train, monkeypatch):
    """Once in the middle: the step is computed again, in a smaller way, and the report says so."""
    monkeypatch.setattr(plugin("nodes.host.loan.plan_loan"), "has_ample_room", lambda *_: False)
    whole = train(batch_size=[2], steps=[4])
    denoiser = plugin("nodes.host.denoiser")
    attention, calls = denoiser.attention_pytorch, []

    def full_once(*args, **kwargs):
        calls.append(1)
        if len(calls) == 150:
            raise RuntimeError("MPS backend out of memory")
        return attention(*args, **kwargs)

    before = snapshot(models)
    monkeypatch.setattr(denoiser, "attention_pytorch", full_once)
    result = train(batch_size=[2], steps=[4])
    assert len(calls) > 150
    assert_same(before, snapshot(models))
    assert "Memory ran out at step" in result[3] and "No step was lost" in result[3]
    torch.testing.assert_close(vectors(result), vectors(whole), rtol=1e-3, atol=1e-5)
    assert "checkpointing off" in whole[3] and "GB of cpu memory" in whole[3]


def test_the_cost_is_that_of_how_a_run_ended(models, monkeypatch):
    monkeypatch.setattr(plugin("nodes.host.loan.plan_loan"), "has_ample_room", lambda *_: False)

    def costs(samples, checkpointing, saving=False):
        backend = plugin("nodes.host.backend").HostBackend(*models)
        with torch.inference_mode(False), backend.lent(samples, backend.latent_shape(128), checkpointing) as lent:
            if saving:
                assert lent.save_memory()
            before = Problem(lent, torch.float32).gradient()
            found = [lent.cost(samples), lent.cost(1)]
            assert torch.equal(Problem(lent, torch.float32).gradient(), before)  # nothing of the count stays
        assert all(text.endswith(" GB of cpu memory") for text in found)
        return found

    (whole, _), (small, _), ended = costs(8, "off"), costs(1, "on"), costs(8, "off", saving=True)
    assert ended[1] == small != whole
    assert ended[0] not in (small, whole)


def test_nothing_is_counted_where_memory_is_plenty(backend, monkeypatch):
    counted = []
    monkeypatch.setattr(plugin("nodes.host.loan.step_count"), "counted_stages", lambda *_, **__: counted.append(1))
    for free, checkpointing in ((1e15, 0), (1e6, 2)):
        monkeypatch.setattr(plugin("nodes.host.loan.plan_loan"), "available_memory", lambda *_, free=free: free)
        with torch.inference_mode(False), backend.lent(2, backend.latent_shape(64)) as lent:
            assert (lent.loan.checkpointing, lent.samples_at_once, lent.plan.bytes) == (checkpointing, 2, None)
        assert bool(counted) is bool(checkpointing)  # one that cannot be counted is checkpointed


def test_the_record_tells_which_weights_the_word_belongs_to(models, train):
    def fingerprint(**changes):
        return json.loads(train(**changes)[0].metadata["textual_inversion"])["model"]["fingerprint"]

    own = fingerprint()
    assert len(own) == 64 and fingerprint(seed=[9]) == own
    patched = models.model.clone()
    key = "diffusion_model.middle_block.1.proj_in.weight"
    patched.add_patches({key: ("diff", (torch.full_like(models.model.model.state_dict()[key], 0.1),))})
    assert fingerprint(model=[patched]) != own
    assert fingerprint() == own
