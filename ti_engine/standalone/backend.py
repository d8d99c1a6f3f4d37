"""DiffusersBackend: models of SD1's shape as diffusers and transformers hold them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..backend import EncoderInfo
from ..checkpointing import checkpointed
from ..embedding import TokenEmbedding
from ..gradients import FLOAT16_LOSS_SCALE
from ..noise import NoiseSchedule, append_dims
from .text import Conditioning, EncodedTexts, TextEncoder

SD1_GUIDANCE = 7.5
_PICTURES_AT_ONCE = 4
_BLOCKS = ("ResnetBlock2D", "BasicTransformerBlock")
Network = TypeVar("Network", bound=nn.Module)


class DiffusersBackend:
    """ti_engine.backend.Backend over a UNet2DConditionModel, CLIPTextModel, AutoencoderKL or AutoencoderTiny.

    The modules that are passed in keep their flags, hooks and weights: the backend works on frozen twins that share
    their memory. tokenizer: a CLIPTokenizer or the demo's. scheduler: any that has the betas and the prediction type.
    Raises ValueError for models of another shape.
    """

    def __init__(
        self,
        unet: nn.Module,
        text_encoder: nn.Module,
        tokenizer: Any,
        autoencoder: nn.Module,
        scheduler: Any,
        guidance: float = SD1_GUIDANCE,
        name: str = "model",
        weights_hash: str | None = None,
    ) -> None:
        _check_shape(unet, text_encoder)
        self._unet: Any = _frozen_twin(unet)
        self._text = TextEncoder(_frozen_twin(text_encoder), tokenizer)
        self._autoencoder: Any = _frozen_twin(autoencoder)
        self._scheduler = scheduler
        self.guidance = guidance
        self.name = name
        self.weights_hash = weights_hash
        """SHA-256 of the weights file in hex, where there is one."""
        self.device: torch.device = self._unet.device
        self.dtype: torch.dtype = self._unet.dtype
        self.schedule = NoiseSchedule(_sigmas(scheduler, self._at_least_float32), _prediction(scheduler))
        width = self._text.info().width
        self.encoder_key = "clip_h" if width == 1024 else "clip_l"
        self.encoders: Mapping[str, EncoderInfo] = {self.encoder_key: self._text.info()}
        self.known_channels = 0
        self.loss_scale = FLOAT16_LOSS_SCALE if self.dtype == torch.float16 else 1.0
        self.factor = 2 ** (len(_stages(self._autoencoder)) - 1)
        """Pixels of a picture's side for one of its latents."""
        self.resolution: int = int(self._unet.config.sample_size) * self.factor
        """Side in pixels of the pictures that the model was trained on."""
        self.samples_at_once: int | None = None
        self._checkpointed, self._checkpointing = False, ExitStack()  # the twin is ours alone, so it may stay that way
        precision = str(self.dtype).removeprefix("torch.")
        self.description = f"{name}: SD1 shape, {self.schedule.prediction}, {precision}, {self.device.type}"

    @property
    def _at_least_float32(self) -> torch.dtype:
        return torch.promote_types(self.dtype, torch.float32)

    def word_vectors(self, words: str) -> dict[str, Tensor]:
        return {self.encoder_key: self._text.word_vectors(words)}

    def nearest_words(self, key: str, vector: Tensor, count: int) -> list[tuple[str, float]]:
        if key != self.encoder_key:
            raise ValueError(f"The model has the text encoder {self.encoder_key}, not {key!r}.")
        return self._text.nearest_words(vector, count)

    def encode(
        self, captions: Sequence[str], placeholder: str, vectors: Mapping[str, Tensor], differentiable: bool
    ) -> EncodedTexts:
        return self._text.encode(captions, placeholder, vectors[self.encoder_key], differentiable)

    def denoise(self, noisy: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        """As the Protocol says; float64 where the modules are float64.

        With a = 1 / (sigma^2 + 1), the scheduler's cumulative alpha, the network sees sqrt(a) noisy.
        """
        s = append_dims(sigma, noisy.ndim)
        timestep = (self.schedule.sigmas.to(sigma.device)[None] - sigma[:, None]).abs().argmin(1)
        scaled = (noisy / (s**2 + 1).sqrt()).to(self.dtype)
        out = self._unet(scaled, timestep, encoder_hidden_states=cond.rows().to(self.dtype)).sample
        out = out.to(self._at_least_float32)
        if self.schedule.prediction == "sample":
            return out
        if self.schedule.prediction == "v_prediction":  # v = sqrt(a) noise - sqrt(1 - a) latents
            return noisy / (s**2 + 1) - s / (s**2 + 1).sqrt() * out
        return noisy - s * out

    def save_memory(self) -> bool:
        if self._checkpointed:
            return False
        blocks = [module for module in self._unet.modules() if type(module).__name__ in _BLOCKS]
        self._checkpointing.enter_context(checkpointed(blocks))
        self._checkpointed = True
        return bool(blocks)

    @torch.no_grad()
    def encode_pictures(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """As the Protocol says; float64 where the modules are float64."""
        parts = [self._encode_part(part) for part in pictures.split(_PICTURES_AT_ONCE)]
        mean, deviation = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return mean, deviation

    def _encode_part(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        vae = self._autoencoder
        encoded = vae.encode((pictures * 2 - 1).to(self.device, vae.dtype))
        shift, scale = _shift_and_scale(vae)
        if hasattr(encoded, "latent_dist"):
            mean, deviation = (encoded.latent_dist.mean - shift) * scale, encoded.latent_dist.std * scale
        else:
            mean = (encoded.latents - shift) * scale
            deviation = torch.zeros_like(mean)
        return mean.to("cpu", self._at_least_float32), deviation.to("cpu", self._at_least_float32)

    def sample(
        self, prompt: str, embedding: TokenEmbedding | None, seed: int, resolution: int, steps: int = 20
    ) -> Tensor:
        return self.generate([prompt], embedding, [seed], resolution, steps)[0]

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        embedding: TokenEmbedding | None,
        seeds: Sequence[int],
        resolution: int | None = None,
        steps: int = 20,
    ) -> Tensor:
        """Pictures [N, 3, H, W] in 0..1, one for each prompt and seed: DDIM (Song et al. 2020) with guidance.

        Each one's noise comes from its own seed, drawn on the CPU, so a picture is the same on any device and in any
        batch up to rounding. ValueError if the embedding does not fit the model.
        """
        from diffusers import DDIMScheduler

        side = (resolution or self.resolution) // self.factor
        scheduler: Any = DDIMScheduler.from_config(self._scheduler.config, clip_sample=False)
        scheduler.set_timesteps(steps)
        shape = (int(self._unet.config.in_channels), side, side)
        noise = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        latents = torch.stack(noise).to(self.device, self._at_least_float32)
        cond = self._text.encode(prompts, *self._word(embedding), differentiable=False).cond
        without = self._text.encode([""] * len(prompts), "", None, differentiable=False).cond
        both = torch.cat([without.rows(), cond.rows()]).to(self.dtype)
        for timestep in scheduler.timesteps:
            out = self._unet(latents.repeat(2, 1, 1, 1).to(self.dtype), timestep, encoder_hidden_states=both).sample
            plain, guided = out.to(latents.dtype).chunk(2)
            latents = scheduler.step(plain + self.guidance * (guided - plain), timestep, latents).prev_sample
        return self._decode(latents)

    def _word(self, embedding: TokenEmbedding | None) -> tuple[str, Tensor | None]:
        if embedding is None:
            return "", None
        rows, width = embedding.vectors.get(self.encoder_key), self.encoders[self.encoder_key].width
        if rows is None or rows.shape[1] != width:
            had = ", ".join(f"{key} of width {v.shape[1]}" for key, v in embedding.vectors.items())
            raise ValueError(f"The embedding holds {had}; this model takes {self.encoder_key} of width {width}.")
        return embedding.placeholder, rows

    def _decode(self, latents: Tensor) -> Tensor:
        shift, scale = _shift_and_scale(self._autoencoder)
        parts = (latents / scale + shift).to(self._autoencoder.dtype).split(_PICTURES_AT_ONCE)
        pictures = torch.cat([self._autoencoder.decode(part).sample for part in parts])
        return (pictures.float() / 2 + 0.5).clamp(0, 1).cpu()


def _frozen_twin(module: Network) -> Network:
    """A copy that shares the tensors of `module` but has flags of its own: no gradients, no dropout."""
    shared: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    shared |= {id(b): b for b in module.buffers()}
    return copy.deepcopy(module, shared).train(False)


def _sigmas(scheduler: Any, dtype: torch.dtype) -> Tensor:
    """sqrt((1 - a) / a) by time step, ascending; where a schedule ends in pure noise, its last level is finite."""
    alphas = scheduler.alphas_cumprod.double().clamp(min=2**-24)
    return ((1 - alphas) / alphas).sqrt().to(dtype)


def _prediction(scheduler: Any) -> Any:
    prediction = scheduler.config.prediction_type
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise ValueError(f"The scheduler's prediction type {prediction!r} is not known; it must be epsilon or v.")
    return prediction


def _stages(autoencoder: Any) -> Sequence[int]:
    config = autoencoder.config
    return config.encoder_block_out_channels if "encoder_block_out_channels" in config else config.block_out_channels


def _shift_and_scale(autoencoder: Any) -> tuple[float, float]:
    """Latents of the model = (latents of the autoencoder - shift) * scale."""
    config = autoencoder.config
    return config.get("shift_factor") or 0.0, config.get("scaling_factor") or 1.0


def _check_shape(unet: Any, text_encoder: Any) -> None:
    config = unet.config
    if config.get("addition_embed_type") or config.get("cross_attention_dim") is None or config.in_channels != 4:
        raise ValueError(
            "Only models of SD1's shape can be used here; this one is of another family (SDXL, inpainting)."
        )
    width = text_encoder.config.hidden_size
    if config.cross_attention_dim != width:
        raise ValueError(
            f"The UNet takes text of width {config.cross_attention_dim}, the text encoder gives {width}; "
            "they do not belong together."
        )
