"""HostBackend: what the engine asks for, over the MODEL, CLIP and VAE that the graph has loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from ...ti_engine import EncoderInfo, NoiseSchedule
from ...ti_engine.training.backend import EncodedPictures
from ...ti_engine.training.gradients import FLOAT16_LOSS_SCALE
from .inpainting import inpainting_channels
from .latents import encode_latents
from .loan.borrow import Loan
from .loan.checkpointing import Blocks, blocks_of
from .loan.lent_backend import LentBackend
from .loan.plan_loan import plan_loan
from .loan.step_count import StepCount
from .models.demo import suitable_threads
from .models.dynamic import check_twins, non_dynamic_clip, non_dynamic_model
from .models.family import noise_schedule, recognise
from .models.identity import models_identity
from .models.known_families import UNPROVEN
from .models.vocabulary import Vocabulary
from .text.frozen_prefix import prompt_prefixes


class HostBackend:
    """The host's models, and what can be asked of them at any time (ti_engine.FrozenModels).

    What training asks for is asked of what `lent` gives; until then nothing is loaded. Raises ValueError for models
    that cannot be trained or do not match.
    """

    loss_scale: float

    def __init__(self, model: Any, clip: Any, vae: Any) -> None:
        self.family = recognise(model, clip, vae)
        check_twins(model, clip)
        self.patcher, self.clip, self.vae = model, clip, vae
        self.resolution: int = self.family.resolution
        self.blocks = Blocks(
            [block for encoder in self.family.encoders.values() for block in blocks_of(encoder.network)],
            # A model that nobody has tried is only run in the way that is right for every one.
            [] if self.family.facts is UNPROVEN else blocks_of(self.patcher.model.diffusion_model),
            self.family.adds_in_place,
            prompt_prefixes(self.clip),
        )
        base = self.patcher.model
        self._vocabularies = {key: Vocabulary(encoder) for key, encoder in self.family.encoders.items()}
        self.schedule: NoiseSchedule = noise_schedule(self.patcher.get_model_object("model_sampling"))
        self.encoders: Mapping[str, EncoderInfo] = {k: v.info() for k, v in self._vocabularies.items()}
        self.device: torch.device = self.patcher.load_device
        self._dtype = dtype = base.manual_cast_dtype or base.get_dtype()
        self.loss_scale = FLOAT16_LOSS_SCALE if dtype == torch.float16 else 1.0
        precision = str(dtype).removeprefix("torch.")
        facts = [
            self.family.name + (" for inpainting" if self.family.inpainting_channels else ""),
            " + ".join(self.encoders),
            self.schedule.prediction,
        ]
        self.description = f"{', '.join(facts)}, {precision} on {self.device}"

    @contextmanager
    def lent(
        self, batch_size: int, latents: Sequence[int], gradient_checkpointing: str = "auto"
    ) -> Iterator[LentBackend]:
        """The context in which training runs: models on their devices, weights usable by autograd.

        latents: shape of one picture's, [C, h, w] or [C, 1, h, w]. gradient_checkpointing: as in TrainConfig. How a
        batch is computed is planned here, by what a step will need and what memory there is.
        """
        plain = self._plain()
        count = StepCount(plain.patcher, plain.clip, plain.family, plain.blocks, latents)
        plan = plan_loan(count, batch_size, gradient_checkpointing)
        patchers = [plain.patcher, plain.clip.patcher]
        loan = Loan(patchers, plan.reserved, plain.blocks.checkpointed, plan.step.checkpointing, plan.wholly)
        with loan:
            yield LentBackend(plain, loan, plan.step, count)

    def _plain(self) -> HostBackend:
        """The same over plain twins, which are loaded here, where the host loads dynamically."""
        model, clip = non_dynamic_model(self.patcher), non_dynamic_clip(self.clip)
        return self if model is self.patcher and clip is self.clip else HostBackend(model, clip, self.vae)

    def threads(self) -> AbstractContextManager[None]:
        """As many as suit the model while this lasts."""
        return suitable_threads(self.patcher)

    def identity(self) -> str | None:
        """What tells these models, and where and how they compute, from others; None where that cannot be told."""
        models = models_identity(self.patcher, self.clip, self.vae, self.schedule)
        return None if models is None else f"{models} {self.device.type} {self._dtype}"

    def ignored(self) -> list[str]:
        """What is attached to the model and takes part in sampling but not in training, as sentences."""
        options = self.patcher.model_options
        names = {
            "model_function_wrapper",
            "sampler_cfg_function",
            "sampler_pre_cfg_function",
            "sampler_post_cfg_function",
        }
        carried = [
            f"The model carries {name}, which training does not call." for name in sorted(names & options.keys())
        ]
        if any(self.patcher.wrappers.values()):
            carried.append("The model carries wrappers of other nodes, which training does not call.")
        if getattr(self.clip.patcher, "forced_hooks", None) is not None:
            carried.append(
                "The CLIP carries hooks, which change it for some steps of sampling only; training ignores them."
            )
        return [*self.family.warnings, *carried]

    def word_vectors(self, words: str) -> dict[str, Tensor]:
        return {key: vocabulary.vectors(words) for key, vocabulary in self._vocabularies.items()}

    def word_tokens(self, words: str) -> dict[str, list[str]]:
        return {key: vocabulary.tokens(words) for key, vocabulary in self._vocabularies.items()}

    def nearest_words(self, key: str, vector: Tensor, count: int) -> list[tuple[str, float]]:
        return self._vocabularies[key].nearest(vector, count)

    @torch.no_grad()
    def encode_pictures(self, pictures: Tensor) -> EncodedPictures:
        base = self.patcher.model
        mean = base.process_latent_in(self._encode(pictures))
        if min(mean.shape[-2:]) < (least := self.family.facts.least_side):
            raise ValueError(
                f"{self.family.name} needs larger pictures: {least} latents along a side, not {mean.shape[-1]}. "
                f"Raise resolution to {-(-pictures.shape[-1] * least // mean.shape[-1] // 8) * 8} or more."
            )
        channels = None
        if self.family.inpainting_channels:
            channels = inpainting_channels(base, pictures, mean, self._encode)
            mean = mean.repeat(len(channels) // len(mean), *[1] * (mean.ndim - 1))
        # The host gives the posterior mean and not its standard deviation.
        return EncodedPictures(mean, torch.zeros_like(mean), channels)

    def _encode(self, pictures: Tensor) -> Tensor:
        return encode_latents(self.vae, self.family, pictures)

    def latent_shape(self, resolution: int) -> list[int]:
        """Of one picture with sides of `resolution` pixels, if its autoencoder is of the usual kind, which divides them
        by 8."""
        frames = [1] if self.family.film else []
        return [self.family.latent_channels, *frames, resolution // 8, resolution // 8]
