"""Checkpoint files of true shape, with random weights, through the host's own loader.

SD1.5's always; SD2's (3 GB) and SDXL's (7 GB) with TI_TRUE_SHAPES=1 in the environment, one after the other.
"""

from __future__ import annotations

import os

import comfy.cli_args
import folder_paths
import pytest
import torch
from in_host import plugin
from safetensors.torch import save_file
from true_weights import sd2, sd15, sdxl

import nodes


@pytest.fixture
def checkpoint(tmp_path):
    """Writes a checkpoint and gives the name under which the loader finds it."""
    written = []

    def write(weights):
        written.append(tmp_path / "random.safetensors")
        save_file(weights, written[0])
        folder_paths.add_model_folder_path("checkpoints", str(tmp_path))
        folder_paths.filename_list_cache.clear()
        return written[0].name

    yield write
    for file in written:
        file.unlink()  # 2 GB and more


def bits_of(model, clip):
    """Every parameter of both by name: the object, and a sum of its bits, which a change of any would change.

    Of bits, because some that no file has are left without values by the host, and may hold NaN.
    """
    roots = (model.model, clip.cond_stage_model)
    named = [(f"{i} {name}", tensor) for i, root in enumerate(roots) for name, tensor in root.named_parameters()]
    whole = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}  # sums of larger numbers are faster
    return {
        name: (tensor, int(tensor.detach().reshape(-1).view(whole[tensor.itemsize]).sum())) for name, tensor in named
    }


def changed(before, model, clip):
    after = bits_of(model, clip)
    return [name for name, (tensor, bits) in before.items() if after[name][0] is not tensor or after[name][1] != bits]


def same_in_the_hosts_own_syntax(clip, word, folder):
    plugin("ti_engine.files").save_embedding(word, folder / "word.safetensors")
    for tokenizer in vars(clip.tokenizer).values():
        if hasattr(tokenizer, "embedding_directory"):
            tokenizer.embedding_directory = [str(folder)]
    ((ours, _),), _ = plugin("nodes.host.text.words").encode_prompt(clip, "a photo of S*", [word])
    ((theirs, _),) = clip.encode_from_tokens_scheduled(clip.tokenize("a photo of embedding:word"))
    return torch.equal(ours, theirs)


def test_a_word_is_trained_saved_and_used(checkpoint, tmp_path, output_folder):
    with torch.inference_mode():
        model, clip, vae = nodes.CheckpointLoaderSimple().load_checkpoint(checkpoint(sd15()))[:3]
        before = bits_of(model, clip)
        pictures = [torch.rand(3, 96, 64, 3, generator=torch.Generator().manual_seed(0))]
        settings = dict(
            steps=2, learning_rate=0.01, batch_size=1, num_vectors=2, initial_words="cat", placeholder="S*",
            what="object", seed=1, resolution=64, preview_every=0,
        )  # fmt: skip
        sockets = dict(model=[model], clip=[clip], vae=[vae], images=pictures)
        word, _, _, report, _ = (
            plugin("nodes.train").Train.execute(**sockets, **{k: [v] for k, v in settings.items()}).args
        )
        assert "SD15, clip_l, epsilon" in report
        rows = word.vectors["clip_l"]
        assert rows.shape == (2, 768) and bool(rows.isfinite().all())
        assert not changed(before, model, clip)
        assert same_in_the_hosts_own_syntax(clip, word, tmp_path)


@pytest.mark.skipif("TI_TRUE_SHAPES" not in os.environ, reason="takes minutes and 10 GB: set TI_TRUE_SHAPES=1")
@pytest.mark.parametrize(
    ("weights", "says", "widths"),
    [
        (sd2, "SD20, clip_h, epsilon", {"clip_h": 1024}),
        (sdxl, "SDXL, clip_l + clip_g, epsilon", {"clip_l": 768, "clip_g": 1280}),
    ],
)
def test_a_step_of_larger_models(weights, says, widths, checkpoint, tmp_path, monkeypatch):
    engine = plugin("ti_engine")
    monkeypatch.setattr(comfy.cli_args.args, "fp16_unet", True)  # as on a card: in float32 SDXL alone takes 10 GB
    with torch.inference_mode():
        model, clip, vae = nodes.CheckpointLoaderSimple().load_checkpoint(checkpoint(weights()))[:3]
        before = bits_of(model, clip)
    with torch.inference_mode(False):
        backend = plugin("nodes.host.backend").HostBackend(model, clip, vae)
        assert says in backend.description
        config = engine.TrainConfig(
            steps=1, batch_size=1, resolution=64, initial_words="cat", evaluate_every=0, warmup_steps=0
        )
        picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
        dataset = engine.encode_training_set(backend, [picture], config)
        with backend.lent(1, dataset.mean.shape[1:]) as lent:
            *_, last = engine.train(lent, dataset, config)
    start, end = last.record.trajectory.values()
    assert last.record.stopped is None and {key: rows.shape[1] for key, rows in end.items()} == widths
    assert all(bool(rows.isfinite().all()) and not torch.equal(rows, start[key]) for key, rows in end.items())
    with torch.inference_mode():
        assert not changed(before, model, clip)
        assert same_in_the_hosts_own_syntax(clip, last.record.embedding(1), tmp_path)
