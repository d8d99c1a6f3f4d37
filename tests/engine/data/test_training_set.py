from collections import Counter

import pytest
import torch
from toy import LATENT_SHAPE, SPREAD, ToyBackend, toy_config

from ti_engine import CaptionSource, TrainingSet, encode_training_set
from ti_engine.training.backend import EncodedPictures


def pictures(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, 64, 64 + 10 * i, generator=generator) for i in range(count)]


def numbered(count: int, deviation: float = 0.0, num_pictures: int | None = None) -> TrainingSet:
    """Latents whose value is the number of their picture; own captions that say it too."""
    mean = torch.arange(count).float().reshape(count, 1, 1, 1).repeat(1, 2, 4, 4)
    captions = CaptionSource("S*", [], [f"S* {i}" for i in range(num_pictures or count)])
    return TrainingSet(mean, torch.full_like(mean, deviation), captions, num_pictures or count)


def test_pictures_are_encoded_once_whatever_their_size():
    backend = ToyBackend()
    dataset = encode_training_set(backend, pictures(3), toy_config())
    assert dataset.mean.shape == dataset.deviation.shape == (3, *LATENT_SHAPE)
    assert dataset.num_pictures == 3


def test_a_caption_stays_with_its_picture():
    generator = torch.Generator().manual_seed(2)
    for _ in range(10):
        batch = numbered(3).draw_batch(7, generator)
        assert [f"S* {int(z[0, 0, 0])}" for z in batch.latents] == batch.captions


def test_a_caption_stays_with_its_mirror_image_too():
    generator = torch.Generator().manual_seed(2)
    batch = numbered(6, num_pictures=3).draw_batch(12, generator)
    assert [f"S* {int(z[0, 0, 0]) % 3}" for z in batch.latents] == batch.captions


def test_mirrored_pictures_are_the_second_half():
    backend = ToyBackend()
    plain = encode_training_set(backend, pictures(2), toy_config())
    mirrored = encode_training_set(backend, pictures(2), toy_config(flip=True))
    assert torch.equal(mirrored.mean[:2], plain.mean)
    torch.testing.assert_close(mirrored.mean[2:], plain.mean.flip(-1))
    assert mirrored.num_pictures == 2


@pytest.mark.parametrize("size", [1, 2, 3, 8, 10])
def test_every_picture_is_used_as_often_as_every_other(size):
    generator = torch.Generator().manual_seed(3)
    totals = Counter()
    for _ in range(300):
        counts = Counter(numbered(3).draw_batch(size, generator).captions)
        assert max(counts.values()) - min(counts[f"S* {i}"] for i in range(3)) <= 1
        totals += counts
    assert len(totals) == 3
    expected = 100 * size
    assert all(abs(n - expected) < 5 * expected**0.5 for n in totals.values())


def test_latents_are_drawn_from_each_pictures_own_distribution():
    generator = torch.Generator().manual_seed(4)
    latents = numbered(1, deviation=SPREAD).draw_batch(2000, generator).latents
    assert float(latents.mean()) == pytest.approx(0, abs=0.005)
    assert float(latents.std()) == pytest.approx(SPREAD, rel=0.02)
    assert torch.equal(numbered(1).draw_batch(5, generator).latents, torch.zeros(5, 2, 4, 4))


def test_two_pictures_may_share_a_caption():
    dataset = encode_training_set(ToyBackend(), pictures(2), toy_config(), ["a red {}", "a red {}"])
    assert dataset.draw_batch(4, torch.Generator()).captions == ["a red S*"] * 4


def test_the_settings_choose_the_templates():
    def drawn(**changes) -> set[str]:
        dataset = encode_training_set(ToyBackend(), pictures(1), toy_config(**changes))
        return set(dataset.draw_batch(300, torch.Generator().manual_seed(0)).captions)

    assert len(drawn()) == 27
    assert all("in the style of S*" in caption for caption in drawn(what="style"))
    assert drawn(what="custom", templates=("my {}", "your [name]")) == {"my S*", "your S*"}
    assert "a photo of my sks" in drawn(placeholder="sks")


@pytest.mark.parametrize(
    ("count", "captions", "changes", "sentence"),
    [
        (0, (), {}, "no picture to learn from"),
        (2, ("a {}",), {}, "1 captions for 2 pictures; give one each or none"),
        (0, ("a {}",), {}, "1 captions for 0 pictures"),
        (1, ("a cat",), {}, "'a cat' does not contain"),
        (2, ("a {}", None), {"what": "custom"}, "what = custom .* captions of your own"),
        (1, (), {"placeholder": "photo"}, "captions hold the word 'photo' themselves.*such as S"),
        (1, (), {"placeholder": "a", "what": "style"}, "captions hold the word 'a' themselves"),
        (1, (), {"what": "custom"}, "what = custom .* captions of your own"),
        (1, (), {"what": "custom", "templates": ("a cat",)}, "'a cat' does not contain"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(count, captions, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        encode_training_set(ToyBackend(), pictures(count), toy_config(**changes), captions)


def test_an_autoencoder_that_overflows_is_named(monkeypatch):
    backend = ToyBackend()
    monkeypatch.setattr(
        backend, "encode_pictures", lambda p: EncodedPictures(*(torch.full((1, 2, 8, 8), torch.nan),) * 2)
    )
    with pytest.raises(ValueError, match=r"autoencoder \(VAE\) made NaN .* Load it in float32"):
        encode_training_set(backend, pictures(1), toy_config())
