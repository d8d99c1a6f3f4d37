"""The models on loan as ti_engine.Backend: what training asks for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import comfy.model_management as memory
import torch
from torch import Tensor

from ....ti_engine import EncodedCaptions, TokenEmbedding
from ....ti_engine.memory.out_of_memory import out_of_memory_forgiven
from ....ti_engine.memory.plan import MARGIN, Checkpointing, MemoryPlan
from ....ti_engine.training.backend import EncodedPictures, Words
from ..denoiser import denoise
from ..models.fingerprint import weights_fingerprint
from ..sampling import sample_picture
from ..text.caption_encoding import encode_captions, rows_read
from .borrow import Loan
from .step_count import StepCount

if TYPE_CHECKING:
    from ..backend import HostBackend


class LentBackend:
    """Of use as long as the `with` of HostBackend.lent lasts. plan, count: of its steps."""

    def __init__(self, models: HostBackend, loan: Loan, plan: MemoryPlan, count: StepCount) -> None:
        self.models, self.loan, self.plan = models, loan, plan
        self._count = count
        self.samples_at_once: int | None = plan.micro_batch
        # What needs no loan.
        self.schedule, self.encoders, self.device = models.schedule, models.encoders, models.device
        self.resolution, self.loss_scale, self.description = models.resolution, models.loss_scale, models.description
        self.word_vectors, self.word_tokens = models.word_vectors, models.word_tokens
        self.nearest_words = models.nearest_words

    def encode_pictures(self, pictures: Tensor) -> EncodedPictures:
        with self.loan.paused():
            return self.models.encode_pictures(pictures)

    def rows_read(self, captions: Sequence[str], placeholder: str, num_vectors: int) -> dict[str, list[set[int]]]:
        """As the Protocol says. The host goes on in further chunks; ValueError where an encoder takes no more."""
        vectors = {key: torch.full((num_vectors, info.width), info.rms) for key, info in self.encoders.items()}
        return rows_read(self.models.clip, captions, {placeholder: vectors})

    def encode(self, captions: Sequence[str], words: Words, differentiable: bool) -> EncodedCaptions:
        return encode_captions(self.models.clip, captions, words, differentiable, self.models.family.joins_captions)

    def denoise(self, noisy: Tensor, sigma: Tensor, cond: Any, inpainting: Tensor | None = None) -> Tensor:
        memory.throw_exception_if_processing_interrupted()
        return denoise(self.models.patcher, noisy, sigma, cond, self.models.family, inpainting)

    def sample(
        self, prompt: str, embedding: TokenEmbedding | None, seed: int, resolution: int, steps: int = 20
    ) -> Tensor:
        """As the Protocol says, of the size that the models were lent for."""
        host, shape = self.models, self._count.latents
        with self.loan.paused():
            return sample_picture(
                host.patcher, host.clip, host.vae, prompt, embedding, seed, shape, steps, host.family.guidance
            )

    def save_memory(self) -> bool:
        """Checkpoints everything that can be, from now on; False if that is so already."""
        if self.loan.checkpointing is Checkpointing.EVERYTHING:
            return False
        self.loan.set_checkpointing(Checkpointing.EVERYTHING)
        return True

    def load_less(self) -> bool:
        return self.loan.load_less()

    def fingerprint(self) -> str:
        """Of the weights of the denoiser and the text encoders, patches included."""
        return weights_fingerprint([self.models.patcher, self.models.clip.patcher])

    def cost(self, samples: int) -> str:
        """How a step of `samples` at once is computed by now and what memory that takes, as far as it is known."""
        how = {
            Checkpointing.NONE: "checkpointing off",
            Checkpointing.TEXT_ENCODERS: "checkpointing of the text encoders",
            Checkpointing.EVERYTHING: "checkpointing on",
        }[self.loan.checkpointing]
        offloaded = self.loan.bytes_offloaded
        if offloaded:
            how += f", {offloaded / 1e9:.2g} GB of the models stay in system memory and are fetched layer by layer"
        if self.plan.bytes is None and self.loan.checkpointing is self.plan.checkpointing:
            return how  # memory was plenty, or nothing can be counted
        step = None
        # The word is learned by now; only a figure in its report is not.
        with suppress(memory.InterruptProcessingException), out_of_memory_forgiven(), self.loan.paused():
            step = self._count.bytes(samples, self.loan.checkpointing, offloaded=offloaded > 0)
        if step is None:
            return how
        needed = self._count.weights() - offloaded + step * MARGIN
        return f"{how}, about {needed / 1e9:.2g} GB of {self.device.type} memory"
