"""Stage 3: the text encoder and the UNet, together and from nothing, on cached latents of drawn scenes."""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel

from ..corpus import Scenes, draw_caption, sample_scenes
from ..model import build_scheduler, build_text_encoder, build_unet
from ..tokenizer import MAX_LENGTH, DemoTokenizer

BATCH = 64
# Parts of a batch that are computed side by side, each with one-thread kernels: on a machine that is busy otherwise,
# kernels that wait for each other's threads are three times slower.
WORKERS = 2
LEARNING_RATE = 1.2e-3
EMA_DECAY = 0.998


@dataclass
class Networks:
    """What is trained here. Its copies hold averaged weights (EMA), which draw better than the last ones."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel

    def parameters(self) -> list[nn.Parameter]:
        return [*self.unet.parameters(), *self.text_encoder.parameters()]


def cache_latents(autoencoder: AutoencoderTiny, count: int, seed: int = 2) -> tuple[Scenes, Tensor]:
    """`count` training scenes (a multiple of 32) and their latents [count, 4, 16, 16] in half precision."""

    @torch.no_grad()
    def encoded(number: int) -> tuple[Scenes, Tensor]:
        generator = torch.Generator().manual_seed(1_000_000 * seed + number)
        part = sample_scenes(32, generator)
        pictures = (part.draw(generator) * 2 - 1).contiguous(memory_format=torch.channels_last)
        return part, autoencoder.encoder(pictures).half()

    with ThreadPoolExecutor(WORKERS) as workers:
        parts = list(workers.map(encoded, range(count // 32)))
    joined = Scenes(**{f.name: torch.cat([getattr(s, f.name) for s, _ in parts]) for f in fields(Scenes)})
    return joined, torch.cat([latents for _, latents in parts])


def tokenize(captions: list[str]) -> Tensor:
    """Token ids [B, 32], padded with the end token and without a mask, as SD1 does."""
    tokenizer = DemoTokenizer()
    rows = [tokenizer(caption)["input_ids"] for caption in captions]
    return torch.tensor([row + [row[-1]] * (MAX_LENGTH - len(row)) for row in rows])


@dataclass
class _Batch:
    noisy: Tensor
    timestep: Tensor
    target: Tensor
    tokens: Tensor


def train_diffusion(
    scenes: Scenes,
    latents: Tensor,
    seconds: float,
    report: Callable[[Networks, int], None],
    reports: int = 6,
    seed: int = 0,
    start_from: Networks | None = None,
    bf16: bool = False,
) -> Networks:
    """Train until `seconds` are over; `report(averaged networks, samples seen)` is called `reports` times.

    start_from: networks to go on with, at three quarters of the learning rate; without them all starts at random.
    bf16: compute in bfloat16 (faster where the processor has instructions for it, slower elsewhere; the gradient keeps
    a cosine above 0.999 to the one in float32). torch.compile is not used: with it the cosine was 0.6.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    full_rate = LEARNING_RATE if start_from is None else 0.75 * LEARNING_RATE
    networks = start_from or Networks(build_unet(), build_text_encoder())
    unet: Any = networks.unet
    unet.to(memory_format=torch.channels_last)
    # The fused attention's backward is slow on a CPU, most of all in bfloat16; plain matrix products are not.
    unet.set_attn_processor(AttnProcessor())
    networks.text_encoder.set_attn_implementation("eager")
    averaged = copy.deepcopy(networks)
    parameters, averages = networks.parameters(), [p.detach() for p in averaged.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    scheduler = build_scheduler()
    start, step, paused, next_report = time.monotonic(), 0, 0.0, 1
    losses: list[float] = []
    workers = ThreadPoolExecutor(WORKERS)
    while (progress := (time.monotonic() - start - paused) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = full_rate * min(1, (step + 1) / 150) * max(0.01, 0.5 * (1 + math.cos(math.pi * progress)))
        batches = _draw_batch(scheduler, scenes, latents, rng)
        results = list(workers.map(lambda batch: _gradients(networks, batch, parameters, bf16), batches))
        for parameter, *gradients in zip(parameters, *(g for _, g in results), strict=True):
            parameter.grad = torch.stack(gradients).mean(0)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        losses.append(sum(loss for loss, _ in results) / WORKERS)
        with torch.no_grad():
            torch._foreach_lerp_(
                averages, [p.detach() for p in parameters], 1 - min(EMA_DECAY, (step + 1) / (step + 10))
            )
        if step % 100 == 0:
            print(f"diffusion {step * BATCH} samples {progress:.1%} loss {sum(losses[-100:]) / 100:.4f}", flush=True)
        if progress * reports >= next_report:
            before = time.monotonic()
            report(averaged, step * BATCH)
            paused += time.monotonic() - before
            next_report += 1
    workers.shutdown()
    report(averaged, step * BATCH)
    return averaged


def _gradients(
    networks: Networks, batch: _Batch, parameters: list[nn.Parameter], bf16: bool
) -> tuple[float, list[Tensor]]:
    """Loss and gradients of part of a batch."""
    # Without the cache of cast weights: it is shared by all threads, and emptying it from two of them can deadlock.
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):
        cond = networks.text_encoder(batch.tokens)[0]
        prediction = networks.unet(batch.noisy, batch.timestep, cond).sample
    loss = (prediction.float() - batch.target).square().mean()
    return float(loss.detach()), list(torch.autograd.grad(loss, parameters))


def _draw_batch(scheduler: Any, scenes: Scenes, latents: Tensor, rng: random.Random) -> list[_Batch]:
    """A batch of BATCH samples in WORKERS parts."""
    index = torch.randint(len(latents), (BATCH,))
    clean = latents[index].float()
    noise = torch.randn_like(clean)
    # Time steps stratified over the batch. A density proportional to t learns shapes a little sooner and textures
    # later; textures are what is learned last.
    quantile = (torch.randperm(BATCH) + torch.rand(BATCH)) / BATCH
    timestep = (quantile * 1000).long().clamp(max=999)
    noisy = scheduler.add_noise(clean, noise, timestep).contiguous(memory_format=torch.channels_last)
    target = scheduler.get_velocity(clean, noise, timestep)
    tokens = tokenize([draw_caption(scenes, int(i), rng) for i in index])
    return [
        _Batch(*parts) for parts in zip(*(t.chunk(WORKERS) for t in (noisy, timestep, target, tokens)), strict=True)
    ]
