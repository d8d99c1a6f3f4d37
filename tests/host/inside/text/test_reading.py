"""What is said of a word that a text encoder does not read whole, in captions and in prompts."""

from __future__ import annotations

import pytest
import torch
from in_host import plugin
from small_clip import small_clip
from small_families import SMALL, build

COUNT = 9
CAPTIONS = ["S* a photo", "photo " * 70 + "S*", "photo " * 124 + "S*", "photo " * 508 + "S*", "photo " * 520 + "S*"]
LATE = "photo " * 90 + "S*"
FAMILIES = [
    "SD1", "SDXL", "SD3", "SD3.5 with T5", "Flux dev", "Stable Cascade C", "HiDream", "HunyuanVideo",
    "Kandinsky 5 Image", "LongCat Image", "PixelDiT", "Qwen-Image", "NewBie",
]  # fmt: skip


def built(family):
    if family not in SMALL:
        pytest.skip(f"this host has no {family}")
    with torch.inference_mode():
        return build(family)


def backend_of(models):
    with torch.inference_mode(False):
        return plugin("nodes.host.backend").HostBackend(*models)


def vectors_with_gradient(backend, caption, rows):
    """Encoder key -> which of `rows` any number depends on that the model gets of `caption`."""
    vectors = {key: part.clone().requires_grad_(True) for key, part in rows.items()}
    outputs = [output for output, _ in backend.encode([caption], {"S*": vectors}, True).outputs if output.requires_grad]
    generator = torch.Generator().manual_seed(0)
    if outputs:
        torch.autograd.backward(outputs, [torch.randn(output.shape, generator=generator) for output in outputs])
    return {
        key: set() if part.grad is None else set(part.grad.any(1).nonzero().flatten().tolist())
        for key, part in vectors.items()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_that_are_read_are_those_with_a_gradient(family):
    models = built(family)
    with torch.inference_mode(False):
        backend = backend_of(models)
        rows = {key: torch.randn(COUNT, info.width) * info.rms for key, info in backend.encoders.items()}
        with backend.lent(1, backend.latent_shape(64)) as lent:
            read = lent.rows_read(CAPTIONS, "S*", COUNT)
            for number, caption in enumerate(CAPTIONS):
                seen = {key: sets[number] for key, sets in read.items()}
                assert seen == vectors_with_gradient(lent, caption, rows)


def learned(models, captions, **changes):
    """The record of a short run with one picture for each caption."""
    engine = plugin("ti_engine")
    with torch.inference_mode(False):
        backend = backend_of(models)
        config = engine.TrainConfig(**{"steps": 3, "batch_size": 2, "resolution": 64, "early_stop": False, **changes})
        dataset = engine.encode_training_set(backend, [torch.rand(3, 64, 64) for _ in captions], config, captions)
        with backend.lent(2, dataset.mean.shape[1:]) as lent:
            steps = engine.train(lent, dataset, config)
            record = next(steps).record
            warnings = list(record.warnings)
            for _ in steps:
                pass
    assert warnings == record.warnings  # all of them before the first update
    return record


def test_captions_that_hide_the_word_from_an_encoder_are_refused():
    models = built("Flux dev")
    with pytest.raises(ValueError, match=r"^clip_l would learn nothing.*Shorten.*train_encoders to t5xxl"):
        learned(models, [LATE, "a " + LATE])
    record = learned(models, [LATE, LATE], train_encoders=("t5xxl",), initial_words="photo")
    assert record.warnings == []
    first, last = record.trajectory[0], record.trajectory[len(record.losses)]
    assert torch.equal(first["clip_l"], last["clip_l"]) and not torch.equal(first["t5xxl"], last["t5xxl"])


def test_captions_that_hide_the_word_in_part_are_named():
    models = built("Flux dev")
    record = learned(models, ["a photo of S*", LATE], num_vectors=2)
    (warning,) = record.warnings
    assert "photo S*'" in warning and "clip_l reads none of the 2 vectors of S*" in warning and "t5xxl" not in warning
    assert learned(models, ["a photo of S*", "S* " + LATE]).warnings == []


def test_chunks_that_all_reach_the_model_hide_nothing():
    assert learned(built("SDXL"), ["photo " * 72 + "S*", LATE], num_vectors=8).warnings == []


def test_vectors_that_no_caption_shows_are_named():
    record = learned(built("LongCat Image"), ["photo " * 508 + "S*"], num_vectors=6)
    caption, rows = record.warnings
    assert "qwen25_7b reads only 4 of the 6 vectors of S*" in caption
    assert "vector 5 and 6" in rows
    first, last = record.trajectory[0]["qwen25_7b"], record.trajectory[len(record.losses)]["qwen25_7b"]
    assert (first != last).any(1).tolist() == [True] * 4 + [False] * 2


def test_a_text_that_the_host_cannot_encode_is_one_sentence():
    models = built("HunyuanDiT 1.2")
    with pytest.raises(ValueError, match="ComfyUI can encode no more than 512 with it; shorten"):
        learned(models, ["photo " * 520 + "S*"])
    with pytest.raises(ValueError, match="no more than 512"):
        report_of(models.clip, "photo " * 520 + "S*")


def report_of(clip, text, count=1, **more):
    """Of Encode Prompt with S*, and other words with so many vectors."""
    keys = plugin("nodes.host.models.encoders").text_encoders(clip)

    def make(placeholder, count):
        rows = {key: torch.randn(count, encoder.width) * 0.02 for key, encoder in keys.items()}
        return plugin("ti_engine").TokenEmbedding(rows, placeholder)

    words = [make("S*", count), *(make(name, other) for name, other in more.items())]
    with torch.inference_mode():
        return plugin("nodes.host.text.words").encode_prompt(clip, text, words)[1]


def test_a_prompt_that_hides_the_word_from_an_encoder_is_warned_of():
    clip = built("Flux dev").clip
    for _ in range(2):  # what is known of the CLIP is not asked for again
        report = report_of(clip, LATE, 2)
        assert "Warning: clip_l reads none of the 2 vector(s) that stand for S*" in report
        assert "t5xxl reads" not in report
    assert "Warning: clip_l reads 1 of the 2 vector(s)" in report_of(clip, "S* and " + LATE)
    assert "Warning" not in report_of(clip, "S* " + "photo " * 90)


def test_a_prompt_that_hides_a_part_of_the_word_is_warned_of():
    clip = built("LongCat Image").clip
    assert "Warning: qwen25_7b reads 4 of the 6 vector(s)" in report_of(clip, "photo " * 508 + "S*", 6)
    with pytest.raises(ValueError, match=r"qwen25_7b reads nothing of S\*.*Shorten"):
        report_of(clip, "photo " * 520 + "S*")


@pytest.mark.parametrize("family", ["SDXL", "SD3"])
def test_long_prompts_of_models_that_get_every_chunk_are_not_warned_of(family):
    clip = built(family).clip
    assert "Warning" not in report_of(clip, "photo " * 200 + "S* T*", 3, **{"T*": 2})


def test_a_moved_word_and_a_cut_one_are_told(tmp_path):
    clip = small_clip(tmp_path)
    moved = report_of(clip, "photo " * 70 + "S*", 12)
    assert "S*: begins a new chunk of text" in moved and "Warning" not in moved
    assert "at position 78-89 of 154" in moved
    cut = report_of(clip, "photo S*", 80)
    assert "Warning: S*: clip_l cannot hold its 80 vectors in one chunk" in cut and "begins a new" not in cut
    assert "chunk" not in report_of(clip, "photo " * 60 + "S*", 12)
    assert "chunk" not in report_of(clip, "photo " * 72 + "S*", 7)
