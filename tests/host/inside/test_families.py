"""Every family that is trained: its gradient against finite differences, and 20 steps that learn something."""

from __future__ import annotations

from contextlib import contextmanager

import folder_paths
import pytest
import torch
from in_host import plugin
from small_families import SMALL, build
from test_gradient import Float64

CAPTIONS = ["a photo of S*", "a photo of the cool S* and S*", "a photo of S*"]


@pytest.fixture(params=SMALL)
def models(request):
    with torch.inference_mode():
        return build(request.param)


@pytest.fixture
def lent(models):
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(*models)
        with backend.lent(3, 64):
            yield backend


@contextmanager
def in_float64(lent, monkeypatch):
    """Everything in float64, also what a backward computes anew: there no mode from outside is on."""
    for module in (lent._patcher.model, lent._clip.cond_stage_model):
        module.double()
    apply_model = lent._patcher.model.apply_model

    def exact(*args, **kwargs):
        with Float64():
            return apply_model(*args, **kwargs)

    monkeypatch.setattr(lent._patcher.model, "apply_model", exact)
    with Float64():
        yield


class Problem:
    """The loss of a fixed batch as a function of the vectors of all encoders, end to end in one tensor."""

    def __init__(self, backend, dtype):
        generator = torch.Generator().manual_seed(2)
        self.backend, self.dtype = backend, dtype
        shape = (3, backend._family.latent_channels, 8, 8)
        self.latents, self.noise = torch.randn(2, *shape, generator=generator, dtype=torch.float64).to(dtype)
        levels = len(backend.schedule.sigmas)
        self.sigma = backend.schedule.sigmas[[levels // 7, levels // 2, levels * 6 // 7]].to(dtype)
        self.sizes = {key: info.width for key, info in backend.encoders.items()}
        scale = torch.cat([torch.full((info.width,), info.rms) for info in backend.encoders.values()])
        self.start = (torch.randn(len(scale), generator=generator, dtype=torch.float64) * scale).to(dtype)

    def vectors(self, flat):
        return {k: part[None] for k, part in zip(self.sizes, flat.split(list(self.sizes.values())), strict=True)}

    def loss(self, cond):
        return plugin("ti_engine.loss").diffusion_loss(self.backend, self.latents, self.noise, self.sigma, cond).sum()

    def at(self, flat):
        return self.loss(self.backend.encode(CAPTIONS, "S*", self.vectors(flat), differentiable=False).cond)

    def gradient(self):
        flat = self.start.clone().requires_grad_(True)
        encoded = self.backend.encode(CAPTIONS, "S*", self.vectors(flat), differentiable=True)
        self.loss(encoded.cond).backward()
        encoded.backward()
        return flat.grad


def test_gradient_against_central_differences(lent, monkeypatch):
    with in_float64(lent, monkeypatch):
        problem = Problem(lent, torch.float64)
        gradient = problem.gradient()
        assert gradient.dtype == torch.float64
        for part in problem.vectors(gradient).values():
            assert bool(part.any())
        step = 1e-5 * float(problem.start.norm())
        directions = torch.randn(3, len(gradient), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        each = [torch.zeros_like(gradient) for _ in problem.sizes]
        for mask, part in zip(each, torch.arange(len(gradient)).split(list(problem.sizes.values())), strict=True):
            mask[part] = gradient[part]  # the gradient of one encoder alone
        for direction in [gradient, *directions, *each]:
            direction = direction / direction.norm()
            with torch.no_grad():
                above, below = (problem.at(problem.start + s * step * direction) for s in (1, -1))
            measured, told = float((above - below) / (2 * step)), float(gradient @ direction)
            assert abs(measured - told) < 1e-5 * max(abs(told), float(gradient.norm()) / len(gradient) ** 0.5)


def test_gradient_in_the_precision_of_a_run(lent, monkeypatch):
    own = Problem(lent, torch.float32).gradient()
    with in_float64(lent, monkeypatch):
        exact = Problem(lent, torch.float64).gradient()
    assert torch.cosine_similarity(own.double(), exact, dim=0) >= 0.999


def test_20_steps_lower_the_loss_and_leave_the_model_alone(models):
    engine = plugin("ti_engine")
    before = snapshot(models)
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(*models)
        latents = torch.randn(1, models.vae.latent_channels, 8, 8, generator=torch.Generator().manual_seed(4))
        captions = engine.CaptionSource("S*", ["a photo of {}"])
        dataset = engine.TrainingSet(latents, torch.zeros_like(latents), captions, 1)
        config = engine.TrainConfig(
            steps=20, learning_rate=0.05, batch_size=4, resolution=64, warmup_steps=0, early_stop=False
        )
        with backend.lent(4, 64):
            *_, last = engine.train(backend, dataset, config)
    losses = last.record.evaluations
    assert last.record.stopped is None and losses[20] < losses[0]
    assert all(
        not torch.equal(rows, last.record.trajectory[0][key]) for key, rows in last.record.trajectory[20].items()
    )
    after = snapshot(models)
    assert before.keys() == after.keys()
    for key, (parameter, bits) in before.items():
        assert after[key][0] is parameter and torch.equal(after[key][1], bits), key


def snapshot(models):
    """Every parameter and buffer of the model and its encoders: the object and its bits."""
    return {
        (number, name): (tensor, tensor.detach().clone())
        for number, root in enumerate((models.model.model, models.clip.cond_stage_model))
        for name, tensor in [*root.named_parameters(), *root.named_buffers()]
    }


def test_a_saved_word_is_the_same_in_the_hosts_own_syntax(models, tmp_path):
    engine, files = plugin("ti_engine"), plugin("ti_engine.files")
    widths = {key: e.width for key, e in plugin("nodes.host.encoders").text_encoders(models.clip).items()}
    word = engine.TokenEmbedding({key: torch.randn(2, width) * 0.1 for key, width in widths.items()})
    files.save_embedding(word, tmp_path / "word.safetensors")
    for tokenizer in vars(models.clip.tokenizer).values():
        tokenizer.embedding_directory = [str(tmp_path)]
    encode = plugin("nodes.host.words").encode_prompt
    with torch.inference_mode():
        ((ours, more),), report = encode(models.clip, "a photo of (S*:1.2), red", [word])
        ((theirs, theirs_more),) = models.clip.encode_from_tokens_scheduled(
            models.clip.tokenize("a photo of (embedding:word:1.2) , red")
        )
    assert torch.equal(ours, theirs) and "S*: 2 vectors" in report
    for name in ("pooled_output", "attention_mask"):
        both = more.get(name), theirs_more.get(name)
        assert all(part is None for part in both) or torch.equal(*both)


def test_a_file_is_named_in_the_prompts_of_every_family(models, tmp_path, monkeypatch):
    """As this project writes it, and for one encoder as diffusers does, where only the width tells the encoder."""
    extensions = folder_paths.folder_names_and_paths["embeddings"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([str(tmp_path)], extensions))
    engine, files = plugin("ti_engine"), plugin("ti_engine.files")
    widths = {key: e.width for key, e in plugin("nodes.host.encoders").text_encoders(models.clip).items()}
    word = engine.TokenEmbedding({key: torch.randn(2, width) * 0.1 for key, width in widths.items()})
    files.save_embedding(word, tmp_path / "my word, v1.safetensors")
    names = ["<my word, v1>", "<MY WORD, V1.safetensors>"]
    if len(widths) == 1:
        torch.save({"<x>": word.vectors[next(iter(widths))]}, tmp_path / "other.bin")
        names.append("<other>")
    encode = plugin("nodes.host.words").encode_prompt
    with torch.inference_mode():
        ((wanted, _),), _ = encode(models.clip, "a photo of (S*:1.2), red", [word])
        for name in names:
            ((named, _),), report = encode(models.clip, f"a photo of ({name}:1.2), red", [])
            assert torch.equal(named, wanted) and ": 2 vectors at position" in report
