"""A Backend that trains in milliseconds and whose best vectors are known.

Text encoder: cond = tanh(sum over tokens of place weight x table row @ rotation) for each encoder, side by side.
Denoiser: the exact one for data that is normally distributed around `centre(cond)` with the deviation `SPREAD`, so
pictures whose latents lie at centre(encode("a photo of S*", hidden)) have their lowest loss at `hidden`. `predict`
says it as a network would (noise, v, ...) in the variance-preserving notation of Ho et al. 2020; `denoise` translates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ti_engine import (
    CaptionSource,
    EncoderInfo,
    NoiseSchedule,
    TokenEmbedding,
    TrainConfig,
    TrainingSet,
    TrainRecord,
    start_run,
    train,
)
from ti_engine.data.captions import OBJECT_TEMPLATES, STYLE_TEMPLATES
from ti_engine.method.prediction import Prediction
from ti_engine.training.backend import EncodedCaptions, EncodedPictures, Words

LATENT_SHAPE = (2, 8, 8)  # of a picture of 64 x 64 pixels
PLACES = 24  # tokens that a caption may have
SPREAD = 0.2
WORDS = sorted(set(re.findall(r"\w+", " ".join((*OBJECT_TEMPLATES, *STYLE_TEMPLATES)))) | {"red", "round", "ball"})
ONE_TEMPLATE = ("a photo of {}",)


@dataclass
class ToyBackend:
    prediction: Prediction = "epsilon"
    widths: Mapping[str, int] = field(default_factory=lambda: {"clip_l": 6})
    dtype: torch.dtype = torch.float32
    rms: float = 0.014
    loss_scale: float = 1.0
    deaf: bool = False
    """The denoiser does not listen to the text, so the gradient is zero."""
    breaks_at: int | None = None
    """Call of `denoise`, from 1, from which on it answers NaN."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    description: str = "toy"
    encoded: list[str] = field(default_factory=list)
    """Every caption that was encoded for training."""
    denoised: int = 0
    """Calls of `denoise` so far."""
    samples_at_once: int | None = None
    resolution: int = 64
    saves_memory: bool = False
    """Whether `save_memory` was called."""
    loaded: float = 1.0
    """Share of the weights that is loaded; at least a quarter has to be."""
    windows: Mapping[str, int] = field(default_factory=dict)
    """Tokens that an encoder reads of a text, where it does not read all."""

    def __post_init__(self) -> None:
        self.schedule = toy_schedule(self.prediction, self.dtype)
        generator = torch.Generator().manual_seed(7)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(self.dtype)

        self.table = {key: normal(len(WORDS), width) * self.rms for key, width in self.widths.items()}
        self.rotation = {
            key: torch.linalg.qr(normal(width, width).double())[0].to(self.dtype) / self.rms
            for key, width in self.widths.items()
        }
        self.places = 1 + 0.2 * normal(PLACES)
        cells = LATENT_SHAPE[0] * LATENT_SHAPE[1] * LATENT_SHAPE[2]
        self.projection = normal(sum(self.widths.values()), cells)
        self.encoders: Mapping[str, EncoderInfo] = {
            key: EncoderInfo(rows.shape[1], 8, float(rows.square().mean().sqrt()), float(rows.norm(dim=1).mean()))
            for key, rows in self.table.items()
        }

    def weights(self) -> list[Tensor]:
        return [*self.table.values(), *self.rotation.values(), self.places, self.projection]

    def word_vectors(self, words: str) -> dict[str, Tensor]:
        tokens = words.split()
        unknown = [token for token in tokens if token not in WORDS]
        if unknown or not tokens:
            raise ValueError(f"The vocabulary does not hold {', '.join(unknown) or 'an empty text'}.")
        index = [WORDS.index(token) for token in tokens]
        return {key: rows[index].float() for key, rows in self.table.items()}

    def word_tokens(self, words: str) -> dict[str, list[str]]:
        return {key: words.split() for key in self.table}

    def nearest_words(self, key: str, vector: Tensor, count: int) -> list[tuple[str, float]]:
        cosines = F.cosine_similarity(self.table[key].float(), vector[None], dim=1)
        best = cosines.topk(count)
        return [(WORDS[int(i)], float(value)) for i, value in zip(best.indices, best.values, strict=True)]

    def encode_pictures(self, pictures: Tensor) -> EncodedPictures:
        mean = F.avg_pool2d(pictures, 8)[:, :2].to(self.dtype) * 2 - 1
        return EncodedPictures(mean, torch.full_like(mean, SPREAD))

    def rows_read(self, captions: Sequence[str], placeholder: str, num_vectors: int) -> dict[str, list[set[int]]]:
        read: dict[str, list[set[int]]] = {key: [] for key in self.widths}
        for caption in captions:
            tokens: list[int] = []
            for token in re.findall(rf"{re.escape(placeholder)}|\w+", caption):
                tokens += range(num_vectors) if token == placeholder else [-1]
            if len(tokens) > PLACES:
                raise ValueError(f"The text {caption!r} does not fit.")
            for key, rows in read.items():
                rows.append({row for row in tokens[: self.windows.get(key)] if row >= 0})
        return read

    def encode(self, captions: Sequence[str], words: Words, differentiable: bool) -> EncodedCaptions:
        with torch.set_grad_enabled(differentiable):
            known = {
                caption: torch.cat([self._encode_one(caption, words, key) for key in self.widths])
                for caption in dict.fromkeys(captions)
            }
            encoded = torch.stack([known[caption] for caption in captions])
        if differentiable:
            self.encoded += captions
        leaf = encoded.detach().requires_grad_(differentiable)
        return EncodedCaptions(leaf, [(encoded, leaf)])

    def _encode_one(self, caption: str, words: Words, key: str) -> Tensor:
        rows = []
        for token in re.findall("|".join([*map(re.escape, words), r"\w+"]), caption):
            known = [WORDS.index(token)] if token in WORDS else []
            rows.append(words[token][key] if token in words else self.table[key][known])
        tokens = torch.cat(rows).to(self.dtype)[: self.windows.get(key)]
        return torch.tanh(0.15 * (self.places[: len(tokens), None] * tokens).sum(0) @ self.rotation[key])

    def centre(self, cond: Tensor) -> Tensor:
        """Mean of the pictures that captions with `cond` [B, D] describe."""
        return (cond @ self.projection).unflatten(1, LATENT_SHAPE)

    def predict(self, noisy: Tensor, signal: Tensor, noise_level: Tensor, cond: Tensor) -> Tensor:
        """What a network of this kind answers to noisy = signal x latents + noise_level x noise."""
        centre = self.centre(cond * 0 if self.deaf else cond)
        signal, level = signal[:, None, None, None], noise_level[:, None, None, None]
        gain = signal * SPREAD**2 / (signal**2 * SPREAD**2 + level**2)
        latents = centre + gain * (noisy - signal * centre)
        noise = (noisy - signal * latents) / level
        if self.prediction == "sample":
            return latents
        if self.prediction == "epsilon":
            return noise
        return noise - latents if "flow" in self.prediction else signal * noise - level * latents

    def denoise(self, noisy: Tensor, sigma: Tensor, cond: Tensor, inpainting: Tensor | None = None) -> Tensor:
        self.denoised += 1
        if self.breaks_at is not None and self.denoised >= self.breaks_at:
            return noisy * torch.nan
        s = sigma[:, None, None, None]
        if self.prediction == "flow":
            return noisy - s * self.predict(noisy, 1 - sigma, sigma, cond)
        if self.prediction == "scaled_flow":
            signal = 1 / (1 + sigma)
            return noisy / (1 + s) - s / (1 + s) * self.predict(noisy / (1 + s), signal, sigma * signal, cond)
        size = (1 + s**2).sqrt()
        signal = (1 + sigma**2).rsqrt()
        answer = self.predict(noisy / size, signal, sigma * signal, cond)
        if self.prediction == "sample":
            return answer
        return noisy - s * answer if self.prediction == "epsilon" else noisy / size**2 - s / size * answer

    def save_memory(self) -> bool:
        saved, self.saves_memory = self.saves_memory, True
        return not saved

    def load_less(self) -> bool:
        before, self.loaded = self.loaded, max(0.25, self.loaded / 2)
        return self.loaded < before

    def sample(
        self, prompt: str, embedding: TokenEmbedding | None, seed: int, resolution: int, steps: int = 20
    ) -> Tensor:
        vectors = embedding.vectors if embedding else {key: rows[:1] for key, rows in self.table.items()}
        cond = self.encode([prompt], {embedding.placeholder if embedding else "S*": vectors}, False).cond
        generator = torch.Generator().manual_seed(seed)
        latents = self.centre(cond) + SPREAD * torch.randn(1, *LATENT_SHAPE, generator=generator)
        picture = F.interpolate(latents, size=(resolution, resolution))[0].float()
        return torch.cat([picture, picture[:1]]).add(1).div(2).clamp(0, 1)


def toy_schedule(prediction: Prediction, dtype: torch.dtype = torch.float32, count: int = 100) -> NoiseSchedule:
    """Sigmas of SD1's range and shape, or the fractions of noise of a flow model."""
    if prediction == "flow":
        sigmas = torch.arange(1, count + 1, dtype=torch.float64) / count
    else:
        alpha_bar = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
        sigmas = ((1 - alpha_bar) / alpha_bar).sqrt()[:: 1000 // count]
    return NoiseSchedule(sigmas.to(dtype), prediction)


def hidden_word(backend: ToyBackend, num_vectors: int = 1) -> dict[str, Tensor]:
    """Vectors that training on `hidden_set` can find."""
    generator = torch.Generator().manual_seed(99)
    return {
        key: torch.randn(num_vectors, width, generator=generator) * backend.rms for key, width in backend.widths.items()
    }


def hidden_set(backend: ToyBackend, placeholder: str = "S*") -> TrainingSet:
    """Latents of what "a photo of S*" means with the vectors of `hidden_word`; captions: that template alone."""
    cond = backend.encode([f"a photo of {placeholder}"], {placeholder: hidden_word(backend)}, False).cond
    mean = backend.centre(cond).repeat(2, 1, 1, 1)
    return TrainingSet(mean, torch.zeros_like(mean), CaptionSource(placeholder, ONE_TEMPLATE), 2)


def noisy_set(backend: ToyBackend) -> TrainingSet:
    """Two pictures with a spread, under the paper's templates: everything random that a run can have."""
    generator = torch.Generator().manual_seed(5)
    mean = torch.randn(2, *LATENT_SHAPE, generator=generator, dtype=torch.float64).to(backend.dtype)
    captions = CaptionSource("S*", OBJECT_TEMPLATES)
    return TrainingSet(mean, torch.full_like(mean, SPREAD), captions, 2)


def toy_config(**changes) -> TrainConfig:
    """Settings that suit the toy: its pictures have 64 pixels."""
    return TrainConfig(**{"resolution": 64, "steps": 30, **changes})


def run(config: TrainConfig, backend: ToyBackend | None = None, make_set=noisy_set, start=None) -> TrainRecord:
    """The record of a whole run on a new toy."""
    backend = backend or ToyBackend()
    *_, last = train(backend, make_set(backend), config, start_run(backend, config, start))
    return last.record


def same(first: TrainRecord, second: TrainRecord) -> bool:
    """Whether two runs are equal bit for bit."""
    states = zip(first.trajectory.values(), second.trajectory.values(), strict=True)
    return first.losses == second.losses and all(torch.equal(a[key], b[key]) for a, b in states for key in a)


def result_loss(record: TrainRecord) -> float:
    """Of the returned vectors on the fixed evaluation set."""
    assert record.result_loss is not None
    return record.result_loss
