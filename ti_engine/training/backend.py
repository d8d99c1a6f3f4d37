"""What the engine asks of whoever owns the frozen models: ComfyUI's objects (nodes/) or diffusers' (standalone/)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..method.noise import NoiseSchedule
from ..word.embedding import TokenEmbedding
from .config import REFERENCE_VOCABULARY_RMS


@dataclass(frozen=True)
class EncoderInfo:
    """A text encoder whose vocabulary can be extended.

    width: length of a vector. max_vectors: tokens that fit between start and end of one chunk of text.
    rms, norm: root mean square of a coordinate, and length, of the vocabulary's usual vector (word/vocabulary.py).
    """

    width: int
    max_vectors: int
    rms: float
    norm: float

    @property
    def scale(self) -> float:
        """How much larger than SD1's this vocabulary is; learning rates are multiplied by it."""
        return self.rms / REFERENCE_VOCABULARY_RMS


Words = Mapping[str, Mapping[str, Tensor]]
"""Placeholder -> encoder key -> vectors [num_vectors, width] that stand for it."""


@dataclass(frozen=True)
class EncodedCaptions:
    """B captions after the text encoders, cut off from them: the denoiser's gradient ends at `cond`.

    So the graphs of the encoders and of the denoiser never exist together, and each caption goes back through the
    encoders once, however many samples share it. The gradient is that of one graph.

    cond: what `Backend.denoise` takes. outputs: pairs of an encoder's output, with its graph, and the leaf in `cond`
    that holds the same numbers and collects the denoiser's gradient.
    """

    cond: Any
    outputs: Sequence[tuple[Tensor, Tensor]]

    def backward(self) -> None:
        """Carries the gradients of `cond` on to the vectors that `encode` was given; does nothing where none came."""
        reached = [(output, leaf.grad) for output, leaf in self.outputs if leaf.grad is not None]
        reached = [(output, gradient) for output, gradient in reached if output.requires_grad]
        if reached:
            torch.autograd.backward([output for output, _ in reached], [gradient for _, gradient in reached])


@dataclass(frozen=True)
class EncodedPictures:
    """Latents of N pictures, on the CPU. mean, deviation: of the autoencoder's posterior, each [M, C, h, w], with T = 1
    before h for models of films; the deviation is zero where the host gives the mean alone.

    inpainting: [M, K, h, w], the mask and the masked picture as an inpainting model sees them beside the noisy latents;
    None for other models. M is a multiple of N: row i is of picture i % N, which an inpainting model sees behind
    several masks.
    """

    mean: Tensor
    deviation: Tensor
    inpainting: Tensor | None = None


class FrozenModels(Protocol):
    """What can be asked of the models at any time, before their weights are on the device too."""

    schedule: NoiseSchedule
    encoders: Mapping[str, EncoderInfo]
    device: torch.device
    """Where `denoise` wants its latents."""
    resolution: int
    """Side in pixels of the pictures that the model was trained on."""
    loss_scale: float
    """Factor on the loss against underflow, to start with: FLOAT16_LOSS_SCALE if the denoiser computes in float16,
    else 1."""
    description: str
    """One line for reports: family, precision, device."""

    def word_vectors(self, words: str) -> dict[str, Tensor]:
        """The vocabulary's own vectors of the tokens of `words`: encoder key -> float32 [tokens, width].

        Raises ValueError for words that the vocabulary does not hold or that have no token.
        """
        ...

    def word_tokens(self, words: str) -> dict[str, list[str]]:
        """Encoder key -> the texts of the tokens of `words`, in the order of `word_vectors`; the same errors."""
        ...

    def nearest_words(self, key: str, vector: Tensor, count: int) -> list[tuple[str, float]]:
        """The `count` tokens of the vocabulary that point most in the direction of `vector` [width], with cosines."""
        ...

    def encode_pictures(self, pictures: Tensor) -> EncodedPictures:
        """Latents of pictures [N, 3, H, W] in 0..1, on the CPU, in the model's scale."""
        ...


class Backend(FrozenModels, Protocol):
    """The models as training needs them. Nothing in them is a parameter; after every call they are bit for bit as they
    were."""

    samples_at_once: int | None
    """The most samples that fit into memory together, as far as that is known before the first step."""

    def rows_read(self, captions: Sequence[str], placeholder: str, num_vectors: int) -> dict[str, list[set[int]]]:
        """Encoder key -> for each caption, those of the word's vectors, from 0, that reach the model through it.

        Some are missing where the encoder's window ends before the word or within it. Raises ValueError for a caption
        that the model cannot take at all.
        """
        ...

    def encode(self, captions: Sequence[str], words: Words, differentiable: bool) -> EncodedCaptions:
        """Captions with the vectors of `words` at their placeholders; gradients if `differentiable`.

        Raises ValueError for vectors that do not fit the text encoders.
        """
        ...

    def denoise(self, noisy: Tensor, sigma: Tensor, cond: Any, inpainting: Tensor | None = None) -> Tensor:
        """Estimate [B, C, h, w] of the clean latents in float32, from noisy latents at noise levels `sigma` [B].

        inpainting: [B, K, h, w] as of EncodedPictures, for models that have such channels.
        """
        ...

    def save_memory(self) -> bool:
        """Checkpoint the denoiser from the next `denoise` on (checkpointing.py); False if it is or cannot be."""
        ...

    def load_less(self) -> bool:
        """Take weights off the device, where they can be fetched for every use; False if no more can leave."""
        ...

    def sample(
        self, prompt: str, embedding: TokenEmbedding | None, seed: int, resolution: int, steps: int = 20
    ) -> Tensor:
        """A picture [3, H, W] in 0..1 of `prompt`. Touches no generator but its own."""
        ...
