"""Every family that is trained: its gradient against finite differences, and 20 steps that learn something.

Named instances are in small_families.py; one that the host does not have is skipped there.
"""

from __future__ import annotations

import comfy.sample
import folder_paths
import pytest
import torch
from in_host import plugin, snapshot
from loss_problem import Problem, in_float64
from proofs import record
from small_encoders import EMBEDDINGS
from small_families import SMALL, build

SYNTAX_FAILS = {"Anima", "HunyuanVideo"}  # the host takes the embedding for a number
# How often the word stands in the caption: with random weights one word among hundreds is hardly listened to, and many
# together are pushed too far.
WORDS = {"PixelDiT": 100, "AuraFlow": 100, "Z-Image (pixels)": 1}
WORDS |= dict.fromkeys(
    ["Krea 2", "Ernie Image", "JoyImage", "HunyuanImage 2.1", "Flux.2", "Mage-Flow", "Ovis Image"], 60
)


@pytest.fixture(params=SMALL)
def family(request):
    return request.param


@pytest.fixture
def models(family):
    with torch.inference_mode():
        return build(family)


@pytest.fixture
def lent(models):
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(*models)
        with backend.lent(3, backend.latent_shape(64)) as lent:
            yield lent


def test_gradient_against_central_differences_and_in_the_precision_of_a_run(family, lent, monkeypatch):
    own = Problem(lent, torch.float32).gradient()
    with in_float64(lent, monkeypatch):
        problem = Problem(lent, torch.float64)
        gradient = problem.gradient()
        assert gradient.dtype == torch.float64
        for part in problem.vectors(gradient).values():
            assert bool(part.any())
        random = torch.randn(2, len(gradient), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        each = [torch.zeros_like(gradient) for _ in problem.sizes]
        for mask, part in zip(each, torch.arange(len(gradient)).split(list(problem.sizes.values())), strict=True):
            mask[part] = gradient[part]  # the gradient of one encoder alone
        errors = []
        for direction in [gradient, *random, *each]:
            direction = direction / direction.norm()
            told = float(gradient @ direction)
            size = max(abs(told), float(gradient.norm()) / len(gradient) ** 0.5)
            errors.append(abs(problem.difference(direction) - told) / size)
    cosine = float(torch.cosine_similarity(own.double(), gradient, dim=0))
    assert max(errors) < 1e-5
    assert cosine >= 0.999
    kind = lent.models.patcher.model
    record(
        family, supported=type(kind.model_config).__name__, model=type(kind).__name__, keys=list(lent.encoders),
        target=lent.schedule.prediction, error=max(errors), cosine=cosine,
    )  # fmt: skip


def test_20_steps_lower_the_loss_and_leave_the_model_alone(family, models):
    engine = plugin("ti_engine")
    use_as_the_host_does(models)
    before = snapshot(models)
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(*models)
        config = engine.TrainConfig(
            steps=20, learning_rate=0.05, batch_size=4, resolution=64, warmup_steps=0, early_stop=False, what="custom",
            templates=("a photo of " + " ".join(["{}"] * WORDS.get(family, 8)),),
        )  # fmt: skip
        for key, rows in backend.word_vectors("photo").items():
            assert rows.shape[1] == backend.encoders[key].width and bool(rows.isfinite().all())
        picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(4))
        dataset = engine.encode_training_set(backend, [picture], config)
        with backend.lent(4, dataset.mean.shape[1:]) as lent:
            *_, last = engine.train(lent, dataset, config)
    assert backend.ignored() == []
    losses = last.record.evaluations
    assert last.record.stopped is None and last.record.result_loss < losses[0]
    assert all(
        not torch.equal(rows, last.record.trajectory[0][key]) for key, rows in last.record.trajectory[20].items()
    )
    after = snapshot(models)
    assert before.keys() == after.keys()
    for key, (parameter, bits) in before.items():
        assert after[key][0] is parameter and torch.equal(after[key][1], bits), key
    record(family, loss=[losses[0], last.record.result_loss])


def use_as_the_host_does(models):
    """A step of sampling in inference mode: some modules keep what they compute, for whoever comes next."""
    latent_format, side = models.model.model.latent_format, models.vae.side
    frames = [1] if models.vae.film else []
    with torch.inference_mode():
        cond = models.clip.encode_from_tokens_scheduled(models.clip.tokenize("a photo of the cool thing"))
        latent = torch.zeros(1, latent_format.latent_channels, *frames, side, side)
        comfy.sample.sample(
            models.model, torch.ones_like(latent), 1, 1.0, "euler", "normal", cond, cond, latent, disable_pbar=True,
            seed=1,
        )  # fmt: skip


def test_a_saved_word_is_the_same_in_the_hosts_own_syntax(family, models):
    """Where the host has such a syntax for this family; the node reads the word in all of them."""
    engine, files, encoders = plugin("ti_engine"), plugin("ti_engine.files"), plugin("nodes.host.models.encoders")
    found = encoders.text_encoders(models.clip)
    generator = torch.Generator().manual_seed(8)
    word = engine.TokenEmbedding({k: torch.randn(2, e.width, generator=generator) * 0.1 for k, e in found.items()})
    (EMBEDDINGS / "word.safetensors").unlink(missing_ok=True)
    files.save_embedding(word, EMBEDDINGS / "word.safetensors")
    encode = plugin("nodes.host.text.words").encode_prompt
    weighs = weighs_words(models.clip)
    text = "a photo of (S*:1.2), red" if weighs else "a photo of S* in red"
    hosts = "a photo of (embedding:word:1.2) , red" if weighs else "a photo of embedding:word in red"
    with torch.inference_mode():
        ((ours, more),), report = encode(models.clip, text, [word])
        assert "S*: 2 vectors" in report and bool(ours.isfinite().all())
        for key in found:  # each encoder's vectors make a difference
            other = dict(word.vectors) | {key: word.vectors[key] * 2}
            ((changed, more_changed),), _ = encode(models.clip, text, [engine.TokenEmbedding(other)])
            assert not torch.equal(changed, ours) or any(
                not torch.equal(more[k], more_changed[k]) for k, v in more.items() if torch.is_tensor(v)
            )
        has_syntax = all(e.tokenizer.embedding_directory is not None for e in found.values())
        record(family, syntax=has_syntax and family not in SYNTAX_FAILS)
        if not has_syntax:
            return
        if family in SYNTAX_FAILS:
            with pytest.raises((RuntimeError, TypeError, ValueError)):
                models.clip.encode_from_tokens_scheduled(models.clip.tokenize(hosts))
            return
        ((theirs, theirs_more),) = models.clip.encode_from_tokens_scheduled(models.clip.tokenize(hosts))
    assert torch.equal(ours, theirs) and more.keys() == theirs_more.keys()
    for name, value in more.items():
        assert torch.equal(value, theirs_more[name]) if torch.is_tensor(value) else value == theirs_more[name]


def weighs_words(clip):
    """Language models do not, or not on every host."""
    encoders = plugin("nodes.host.models.encoders")
    return not any(encoders.is_language_model(e.network) for e in encoders.text_encoders(clip).values())


def test_a_file_is_named_in_the_prompts_of_every_family(models, tmp_path, monkeypatch):
    """As this project writes it, and for one encoder as diffusers does, where only the width tells the encoder."""
    extensions = folder_paths.folder_names_and_paths["embeddings"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([str(tmp_path)], extensions))
    engine, files = plugin("ti_engine"), plugin("ti_engine.files")
    widths = {key: e.width for key, e in plugin("nodes.host.models.encoders").text_encoders(models.clip).items()}
    known = plugin("ti_engine.files.formats.encoders").encoder_of_key
    if len(widths) > 1 and any(known(key, width) != key for key, width in widths.items()):
        pytest.skip("files know these text encoders by their widths, which are other ones in small")
    word = engine.TokenEmbedding({key: torch.randn(2, width) * 0.1 for key, width in widths.items()})
    files.save_embedding(word, tmp_path / "my word, v1.safetensors")
    names = ["<my word, v1>", "<MY WORD, V1.safetensors>"]
    if len(widths) == 1:
        torch.save({"<x>": word.vectors[next(iter(widths))]}, tmp_path / "other.bin")
        names.append("<other>")
    encode = plugin("nodes.host.text.words").encode_prompt
    text = "a photo of ({}:1.2), red" if weighs_words(models.clip) else "a photo of {}, red"
    with torch.inference_mode():
        ((wanted, _),), _ = encode(models.clip, text.format("S*"), [word])
        for name in names:
            ((named, _),), report = encode(models.clip, text.format(name), [])
            assert torch.equal(named, wanted) and ": 2 vectors at position" in report
