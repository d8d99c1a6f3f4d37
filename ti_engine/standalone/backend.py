"""DiffusersBackend: the models of a diffusers pipeline for the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..memory.checkpointing import checkpointed
from ..method.noise import append_dims
from ..training.backend import EncodedCaptions, EncodedPictures, EncoderInfo, Words
from ..training.gradients import FLOAT16_LOSS_SCALE
from ..word.embedding import TokenEmbedding
from ..word.families import describe_widths
from .autoencoder import Autoencoder
from .families import Conditions, family_of
from .identity import models_identity
from .schedule import diffusion_levels, flow_levels, noise_schedule
from .text import Conditioning
from .twins import check_shape, frozen_twin, text_encoders, with_twins

# What runs twice where memory is short: SD and SDXL, SD3, Flux.
_BLOCKS = (
    "ResnetBlock2D",
    "BasicTransformerBlock",
    "JointTransformerBlock",
    "FluxTransformerBlock",
    "FluxSingleTransformerBlock",
)
_TRAINING_GUIDANCE = 1.0  # for networks that read it: 1 is no guidance
_SAMPLE_SIZE = 128  # latents of a side where the network does not say it (Flux)


class DiffusersBackend:
    """The Backend of training/backend.py over a diffusers pipeline of a kind in families.py, or over LooseParts.

    The pipeline and its modules keep their flags, hooks and weights: the backend works on frozen twins that share
    their memory. guidance: None is what suits the family. Raises ValueError for models of another shape.
    """

    def __init__(
        self, pipeline: Any, guidance: float | None = None, name: str = "model", weights_hash: str | None = None
    ) -> None:
        family = self._family = family_of(pipeline)
        self._network: Any = frozen_twin(getattr(pipeline, family.network))
        self._autoencoder = Autoencoder(frozen_twin(getattr(pipeline, family.autoencoder)))
        self._text = text_encoders(pipeline, family)
        self._models = with_twins(pipeline, family, self._network, self._text)
        self.encoders: Mapping[str, EncoderInfo] = {key: encoder.info() for key, encoder in self._text.items()}
        check_shape(family, self._models, self.encoders)
        self.encoder_key = next(iter(self.encoders))
        """The first text encoder's; of SD1 and the demo model the only one's."""
        self.guidance = family.guidance if guidance is None else guidance
        self.name = name
        self.weights_hash = weights_hash
        """SHA-256 in hex of the file with the network's weights, the first of several, where there is one."""
        self.device: torch.device = self._network.device
        self.dtype: torch.dtype = self._network.dtype
        self.loss_scale = FLOAT16_LOSS_SCALE if self.dtype == torch.float16 else 1.0
        self.multiple = self._autoencoder.factor * family.patch
        """Sides of pictures are multiples of it, in pixels."""
        self.resolution: int = _sample_size(self._network) * self._autoencoder.factor
        """Side in pixels of the pictures that the model was trained on."""
        self.schedule = noise_schedule(
            pipeline.scheduler, family.flow, self._tokens(self.resolution), self._at_least_float32
        )
        self._levels(self.resolution, 1)  # so that settings which pictures would stumble over are told now
        self.samples_at_once: int | None = None
        self._checkpointed, self._checkpointing = False, ExitStack()  # the twin is ours alone, so it may stay that way
        precision = str(self.dtype).removeprefix("torch.")
        self.description = (
            f"{name}: {family.title}, {' + '.join(self.encoders)}, {self.schedule.prediction}, {precision}, "
            f"{self.device.type}"
        )

    def identity(self) -> str:
        """What tells these models from all others: see `models_identity`."""
        networks = [self._network, self._autoencoder.network, *(encoder.network for encoder in self._text.values())]
        return models_identity(networks, [encoder.tokenizer for encoder in self._text.values()], self.schedule)

    @property
    def _at_least_float32(self) -> torch.dtype:
        return torch.promote_types(self.dtype, torch.float32)

    def _tokens(self, side: int) -> int:
        return (side // self.multiple) ** 2

    def word_vectors(self, words: str) -> dict[str, Tensor]:
        return {key: encoder.word_vectors(words) for key, encoder in self._text.items()}

    def word_tokens(self, words: str) -> dict[str, list[str]]:
        return {key: encoder.word_tokens(words) for key, encoder in self._text.items()}

    def nearest_words(self, key: str, vector: Tensor, count: int) -> list[tuple[str, float]]:
        if key not in self._text:
            raise ValueError(f"The model has the text encoders {', '.join(self._text)}, not {key!r}.")
        return self._text[key].nearest_words(vector, count)

    def rows_read(self, captions: Sequence[str], placeholder: str, num_vectors: int) -> dict[str, list[set[int]]]:
        return {
            key: encoder.tokenizer.rows_read(captions, placeholder, num_vectors) for key, encoder in self._text.items()
        }

    def encode(self, captions: Sequence[str], words: Words, differentiable: bool) -> EncodedCaptions:
        """As the Protocol says, each distinct caption encoded once; `cond` is a Conditioning.

        Raises ValueError for a caption that does not fit.
        """
        distinct = list(dict.fromkeys(captions))
        with ExitStack() as stack:
            stack.enter_context(torch.set_grad_enabled(differentiable))
            for key, encoder in self._text.items():
                stack.enter_context(encoder.lent({word: vectors[key] for word, vectors in words.items()}))
            encoded = self._family.encode(self._models, distinct)
        index = torch.tensor([distinct.index(caption) for caption in captions], device=self.device)
        leaves = {name: tensor.detach().requires_grad_(differentiable) for name, tensor in encoded.items()}
        return EncodedCaptions(Conditioning(leaves, index), [(encoded[name], leaves[name]) for name in encoded])

    def denoise(self, noisy: Tensor, sigma: Tensor, cond: Conditioning, inpainting: Tensor | None = None) -> Tensor:
        """As the Protocol says; float64 where the modules are float64."""
        return self._denoise(noisy, sigma, cond.rows(), _TRAINING_GUIDANCE)

    def _denoise(self, noisy: Tensor, sigma: Tensor, cond: Conditions, guidance: float) -> Tensor:
        """With a = 1 / (sigma^2 + 1), the scheduler's cumulative alpha, a diffusion network sees sqrt(a) noisy."""
        s = append_dims(sigma, noisy.ndim)
        flow = self._family.flow
        time = sigma if flow else (self.schedule.sigmas.to(sigma.device)[None] - sigma[:, None]).abs().argmin(1)
        out = self._family.predict(
            self._models,
            (noisy if flow else noisy / (s**2 + 1).sqrt()).to(self.dtype),
            time,
            {name: tensor.to(self.dtype) for name, tensor in cond.items()},
            torch.full_like(sigma, guidance),
        ).to(self._at_least_float32)
        return self.schedule.clean_estimate(out, noisy, sigma)

    def save_memory(self) -> bool:
        if self._checkpointed:
            return False
        blocks = [module for module in self._network.modules() if type(module).__name__ in _BLOCKS]
        self._checkpointing.enter_context(checkpointed(blocks))
        self._checkpointed = True
        return bool(blocks)

    def load_less(self) -> bool:
        """Never: the whole pipeline is on its device."""
        return False

    @torch.no_grad()
    def encode_pictures(self, pictures: Tensor) -> EncodedPictures:
        """As the Protocol says; float64 where the modules are float64. ValueError for a side the model cannot draw."""
        side = next((side for side in pictures.shape[2:] if side % self.multiple), None)
        if side is not None:
            raise ValueError(f"The model takes pictures whose sides are multiples of {self.multiple}, got {side}.")
        return EncodedPictures(*self._autoencoder.encode(pictures))

    def sample(
        self, prompt: str, embedding: TokenEmbedding | None, seed: int, resolution: int, steps: int = 20
    ) -> Tensor:
        words = {} if embedding is None else {embedding.placeholder: embedding.vectors}
        return self.generate([prompt], words, [seed], resolution, steps)[0]

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        words: Words,
        seeds: Sequence[int],
        resolution: int | None = None,
        steps: int = 20,
        negative: str = "",
    ) -> Tensor:
        """Pictures [N, 3, H, W] in 0..1, one for each prompt and seed, with guidance away from `negative`.

        In this notation DDIM and the flow pipelines' sampler are one, Euler's method (Karras et al. 2022). Each
        picture's noise comes from its own seed, drawn on the CPU, so it is the same on any device and in any batch up
        to rounding. ValueError if a word does not fit the model, and for a negative prompt that the model cannot use.
        """
        if negative and not self._family.negative:
            raise ValueError(f"{self._family.title} takes no negative prompt; leave it out.")
        self._check_words(words)
        self._check_windows([*prompts, negative], words)
        side = resolution or self.resolution
        latents = self._draw_noise(seeds, side // self._autoencoder.factor)
        levels = self._levels(side, steps).to(latents)
        if not self._family.flow:
            latents = latents * (levels[0] ** 2 + 1).sqrt()
        cond = self.encode(prompts, words, differentiable=False).cond.rows()
        without = self._encode_negative(negative, words, cond) if self._family.negative else {}
        for level, following in pairwise(levels):
            if without:
                both = {name: torch.cat([without[name], rows]) for name, rows in cond.items()}
                out = self._denoise(latents.repeat(2, 1, 1, 1), level.expand(2 * len(latents)), both, self.guidance)
                unguided, guided = out.chunk(2)
                denoised = unguided + self.guidance * (guided - unguided)
            else:
                denoised = self._denoise(latents, level.expand(len(latents)), cond, self.guidance)
            latents = denoised + following / level * (latents - denoised)
        return self._autoencoder.decode(latents)

    def _draw_noise(self, seeds: Sequence[int], side: int) -> Tensor:
        shape = (self._autoencoder.channels, side, side)
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(noise).to(self.device, self._at_least_float32)

    def _levels(self, side: int, steps: int) -> Tensor:
        scheduler = self._models.scheduler
        if not self._family.flow:
            return diffusion_levels(scheduler, self.schedule.sigmas, steps)
        return flow_levels(scheduler, self._tokens(side), steps, even=not self._family.negative)

    def _check_words(self, words: Words) -> None:
        wanted = {key: info.width for key, info in self.encoders.items()}
        for placeholder, vectors in words.items():
            had = {key: rows.shape[1] for key, rows in vectors.items()}
            if any(had.get(key) != width for key, width in wanted.items()):
                raise ValueError(
                    f"The embedding {placeholder} holds {describe_widths(had)}; this model takes "
                    f"{describe_widths(wanted)}."
                )

    def _check_windows(self, prompts: Sequence[str], words: Words) -> None:
        """ValueError for a prompt with a word in it of which a text encoder does not read every vector."""
        for key, encoder in self._text.items():
            counts = {word: len(vectors[key]) for word, vectors in words.items()}
            for text in dict.fromkeys(prompts):
                for word, read in encoder.tokenizer.vectors_read(text, counts).items():
                    if read < counts[word]:
                        raise ValueError(
                            f"{key} reads {read} of {counts[word]} vector(s) of {word} in the text {text!r}: what "
                            f"stands before it is too long. Shorten that, or move {word} towards the beginning."
                        )

    def _encode_negative(self, negative: str, words: Words, cond: Conditions) -> dict[str, Tensor]:
        """What pictures are guided away from. An empty text is, for most SDXL models, zeros, as the pipeline has it."""
        config = getattr(self._models, "config", {})
        if not negative and config.get("force_zeros_for_empty_prompt"):
            return {name: torch.zeros_like(rows) for name, rows in cond.items()}
        count = len(next(iter(cond.values())))
        return self.encode([negative] * count, words, differentiable=False).cond.rows()


def _sample_size(network: Any) -> int:
    size = network.config.get("sample_size") or _SAMPLE_SIZE
    return int(size if isinstance(size, int) else size[0])
