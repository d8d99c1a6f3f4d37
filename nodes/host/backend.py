"""HostBackend: what the engine asks for, over the MODEL, CLIP and VAE that the graph has loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import comfy.model_management as memory
import torch
from comfy.utils import common_upscale
from torch import Tensor

from ...ti_engine import EncodedCaptions, EncoderInfo, NoiseSchedule, TokenEmbedding
from ...ti_engine.demo.threads import one_thread
from ...ti_engine.memory.plan import MARGIN, MemoryPlan, Recompute, choose_plan
from ...ti_engine.training.backend import EncodedPictures, Words
from ...ti_engine.training.gradients import FLOAT16_LOSS_SCALE
from .denoiser import denoise
from .inpainting import inpainting_channels
from .loan.borrow import Loan
from .loan.memory_count import available_memory, has_ample_room
from .loan.recomputing import Blocks, blocks_of
from .loan.step_count import StepCount
from .models.demo import DemoSD
from .models.dynamic import non_dynamic_clip, non_dynamic_model
from .models.family import noise_schedule, recognise
from .models.fingerprint import weights_fingerprint
from .models.identity import models_identity
from .models.known_families import UNPROVEN
from .models.vocabulary import Vocabulary
from .sampling import sample_picture
from .text.caption_encoding import encode_captions, rows_read
from .text.frozen_prefix import prompt_prefixes

_ACTIVATIONS = 8  # training keeps the activations that sampling frees; times the host's own estimate for sampling


class HostBackend:
    """The host's models as ti_engine.Backend. Raises ValueError for models that cannot be trained or do not match.

    Encode the pictures first; then everything else inside of `with backend.lent(...)`.
    """

    loss_scale: float

    def __init__(self, model: Any, clip: Any, vae: Any) -> None:
        recognise(model, clip, vae)  # before their plain twins are loaded, which may take a while
        self._patcher, self._clip = non_dynamic_model(model), non_dynamic_clip(clip)
        self._family = recognise(self._patcher, self._clip, vae)
        self._vae = vae
        self._loan: Loan | None = None
        self._count: StepCount | None = None
        self._shape: tuple[int, ...] | None = None  # of one picture's latents, once there was one
        self.resolution: int = self._family.resolution
        self._blocks = Blocks(
            [block for encoder in self._family.encoders.values() for block in blocks_of(encoder.network)],
            # A model that nobody has tried is only run in the way that is right for every one.
            [] if self._family.facts is UNPROVEN else blocks_of(self._patcher.model.diffusion_model),
            self._family.adds_in_place,
            prompt_prefixes(self._clip),
        )
        self.plan: MemoryPlan | None = None
        """How a batch is computed; known once the models are lent."""
        self.samples_at_once: int | None = None
        base = self._patcher.model
        self._vocabularies = {key: Vocabulary(encoder) for key, encoder in self._family.encoders.items()}
        self.schedule: NoiseSchedule = noise_schedule(self._patcher.get_model_object("model_sampling"))
        self.encoders: Mapping[str, EncoderInfo] = {k: v.info() for k, v in self._vocabularies.items()}
        self.device: torch.device = self._patcher.load_device
        dtype = base.manual_cast_dtype or base.get_dtype()
        self.loss_scale = FLOAT16_LOSS_SCALE if dtype == torch.float16 else 1.0
        precision = str(dtype).removeprefix("torch.")
        facts = [
            self._family.name + (" for inpainting" if self._family.inpainting_channels else ""),
            " + ".join(self.encoders),
            self.schedule.prediction,
        ]
        self.description = f"{', '.join(facts)}, {precision} on {self.device}"

    def lent(self, batch_size: int, resolution: int, gradient_checkpointing: str = "auto") -> Loan:
        """The context in which training runs: models on their devices, weights usable by autograd.

        gradient_checkpointing: as in TrainConfig. Sets `plan`, by what a step will need and what memory there is.
        """
        patchers, ways = [self._patcher, self._clip.patcher], self._blocks.ways(gradient_checkpointing)
        available = available_memory(self.device, patchers)
        estimate = self._patcher.model.memory_required(self._latent_shape(batch_size, resolution))
        one = self._latent_shape(1, resolution)
        count = self._count = StepCount(self._patcher, self._clip, self._family, self._blocks, one)
        if has_ample_room(self.device, available, estimate, self._clip.patcher.model_size()):
            self.plan = MemoryPlan(batch_size, ways[0], None)
        else:
            self.plan = choose_plan(count.bytes, batch_size, available, ways)
        # What is not known, or asked for by name, is tried with all weights in place.
        needed = 0 if gradient_checkpointing == "off" else self.plan.bytes or 0
        wholly = memory.is_device_cpu(self.device) or needed <= available
        if not wholly:  # some weights have to make room, and all may
            fetching = partial(count.bytes, fetched=True)
            self.plan = choose_plan(fetching, batch_size, available + self._weights(), (Recompute.EVERYTHING,))
        self.samples_at_once = self.plan.samples_at_once
        need = estimate * _ACTIVATIONS if self.plan.bytes is None else self.plan.bytes
        self._loan = Loan(patchers, need, self._blocks.recomputed, self.plan.recompute, wholly)
        return self._loan

    def threads(self) -> AbstractContextManager[None]:
        """As many as suit the model while this lasts."""
        return one_thread() if isinstance(self._patcher.model.model_config, DemoSD) else nullcontext()

    def save_memory(self) -> bool:
        """Run everything twice that can be, from now on; False if it does already."""
        if self._loan is None or self._loan.recompute is Recompute.EVERYTHING:
            return False
        self._loan.set_recompute(Recompute.EVERYTHING)
        return True

    def load_less(self) -> bool:
        return self._loan is not None and self._loan.load_less()

    def fingerprint(self) -> str:
        """Of the denoiser and the text encoders, patches included; to be asked while they are lent."""
        return weights_fingerprint([self._patcher, self._clip.patcher])

    def identity(self) -> str | None:
        """What tells these models from others; None where that cannot be told."""
        return models_identity(self._patcher, self._clip, self._vae, self.schedule)

    def cost(self, samples: int) -> str:
        """How a step of `samples` at once is computed by now and what memory that takes, as far as it is known."""
        if self._loan is None or self._count is None or self.plan is None:
            return ""
        how = {
            Recompute.NOTHING: "checkpointing off",
            Recompute.ENCODERS: "checkpointing of the text encoders",
            Recompute.EVERYTHING: "checkpointing on",
        }[self._loan.recompute]
        elsewhere = self._loan.bytes_elsewhere
        if elsewhere:
            how += f", {elsewhere / 1e9:.2g} GB of the models stay in system memory and are fetched layer by layer"
        if self.plan.bytes is None and self._loan.recompute is self.plan.recompute:
            return how  # memory was plenty, or nothing can be counted
        try:
            step = self._count.bytes(samples, self._loan.recompute, fetched=elsewhere > 0)
        except memory.InterruptProcessingException:  # the word is learned; only a figure in its report is not
            step = None
        if step is None:
            return how
        needed = self._weights() - elsewhere + step * MARGIN
        return f"{how}, about {needed / 1e9:.2g} GB of {self.device.type} memory"

    def _weights(self) -> int:
        """Bytes of those that the denoiser's device computes with."""
        patchers = (self._patcher, self._clip.patcher)
        return sum(patcher.model_size() for patcher in patchers if patcher.load_device == self.device)

    def _latent_shape(self, samples: int, resolution: int) -> list[int]:
        """Of what `denoise` is given for `samples` pictures of that side."""
        frames = [1] if self._family.film else []
        channels, *rest = self._shape or (self._family.latent_channels, *frames, resolution // 8, resolution // 8)
        return [samples, channels + self._family.inpainting_channels, *rest]

    def ignored(self) -> list[str]:
        """What is attached to the model and takes part in sampling but not in training, as sentences."""
        options = self._patcher.model_options
        names = {
            "model_function_wrapper",
            "sampler_cfg_function",
            "sampler_pre_cfg_function",
            "sampler_post_cfg_function",
        }
        carried = [
            f"The model carries {name}, which training does not call." for name in sorted(names & options.keys())
        ]
        if any(self._patcher.wrappers.values()):
            carried.append("The model carries wrappers of other nodes, which training does not call.")
        if getattr(self._clip.patcher, "forced_hooks", None) is not None:
            carried.append(
                "The CLIP carries hooks, which change it for some steps of sampling only; training ignores them."
            )
        return [*self._family.warnings, *carried]

    def word_vectors(self, words: str) -> dict[str, Tensor]:
        return {key: vocabulary.vectors(words) for key, vocabulary in self._vocabularies.items()}

    def word_tokens(self, words: str) -> dict[str, list[str]]:
        return {key: vocabulary.tokens(words) for key, vocabulary in self._vocabularies.items()}

    def nearest_words(self, key: str, vector: Tensor, count: int) -> list[tuple[str, float]]:
        return self._vocabularies[key].nearest(vector, count)

    @torch.no_grad()
    def encode_pictures(self, pictures: Tensor) -> EncodedPictures:
        base = self._patcher.model
        with self._originals_back():
            raw = self._encode(pictures)
            mean = base.process_latent_in(raw)
            self._shape = tuple(mean.shape[1:])
            if min(mean.shape[-2:]) < (least := self._family.facts.least_side):
                raise ValueError(
                    f"{self._family.name} needs larger pictures: {least} latents along a side, not {mean.shape[-1]}. "
                    f"Raise resolution to {-(-pictures.shape[-1] * least // mean.shape[-1] // 8) * 8} or more."
                )
            channels = None
            if self._family.inpainting_channels:
                channels = inpainting_channels(base, pictures, mean, self._encode)
                mean = mean.repeat(len(channels) // len(mean), *[1] * (mean.ndim - 1))
        # The host gives the posterior mean and not its standard deviation.
        return EncodedPictures(mean, torch.zeros_like(mean), channels)

    def _encode(self, pictures: Tensor) -> Tensor:
        """The autoencoder's latents [N, C, h, w] ([N, C, 1, h, w] for films) of [N, 3, H, W], not yet scaled."""
        side = self._family.facts.side
        if side is not None:  # as the host's own node for this family does
            size = pictures.shape[-1] // side * self._vae.downscale_ratio
            pictures = common_upscale(pictures, size, size, "bicubic", "center")
        # One at a time: some autoencoders take a batch for the frames of a film.
        # In the host's own mode: its way to encode in tiles where memory is short adds in place to what comes out.
        with torch.inference_mode():
            raw = torch.cat([self._vae.encode(p[None].movedim(1, -1)) for p in pictures]).float().cpu()
        raw = raw.clone()
        return raw.unsqueeze(2) if self._family.film and raw.ndim == 4 else raw

    def rows_read(self, captions: Sequence[str], placeholder: str, num_vectors: int) -> dict[str, list[set[int]]]:
        """As the Protocol says; no caption is too long, because the host goes on in further chunks."""
        vectors = {key: torch.full((num_vectors, info.width), info.rms) for key, info in self.encoders.items()}
        return rows_read(self._clip, captions, {placeholder: vectors})

    def encode(self, captions: Sequence[str], words: Words, differentiable: bool) -> EncodedCaptions:
        return encode_captions(self._clip, captions, words, differentiable, self._family.joins_captions)

    def denoise(self, noisy: Tensor, sigma: Tensor, cond: Any, inpainting: Tensor | None = None) -> Tensor:
        memory.throw_exception_if_processing_interrupted()
        return denoise(self._patcher, noisy, sigma, cond, self._family, inpainting)

    def sample(
        self, prompt: str, embedding: TokenEmbedding | None, seed: int, resolution: int, steps: int = 20
    ) -> Tensor:
        shape = self._latent_shape(1, resolution)[1:]
        shape[0] -= self._family.inpainting_channels
        with self._originals_back():
            return sample_picture(
                self._patcher, self._clip, self._vae, prompt, embedding, seed, shape, steps, self._family.guidance
            )

    def _originals_back(self) -> AbstractContextManager[None]:
        return self._loan.paused() if self._loan is not None and self._loan.is_open else nullcontext()
