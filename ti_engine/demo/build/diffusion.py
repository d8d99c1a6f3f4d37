"""Stage 3: the text encoder and the UNet, together and from nothing, on cached latents of drawn scenes."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel

from ..model import build_scheduler, build_text_encoder, build_unet
from .latents import LatentCorpus

EMA_DECAY = 0.998
_CPU_WORKERS = 2


@dataclass
class Networks:
    """What is trained here. Its copies hold averaged weights (EMA), which draw better than the last ones."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel

    def parameters(self) -> list[nn.Parameter]:
        return [*self.unet.parameters(), *self.text_encoder.parameters()]

    @property
    def device(self) -> torch.device:
        return self.unet.device

    def to(self, device: torch.device) -> Networks:
        modules: list[Any] = [self.unet, self.text_encoder]
        for module in modules:
            module.to(device)
        return self


@dataclass(frozen=True)
class Pace:
    """How a device trains: samples in a batch, in how many parts computed side by side, and the highest rate.

    The parts of a CPU's batch have one-thread kernels each: on a machine that is busy otherwise, kernels that wait for
    each other's threads are three times slower.
    """

    batch: int
    workers: int
    learning_rate: float

    @classmethod
    def of(cls, device: torch.device) -> Pace:
        return cls(64, _CPU_WORKERS, 1.2e-3) if device.type == "cpu" else cls(1024, 1, 1.5e-3)


@dataclass
class _Batch:
    noisy: Tensor
    timestep: Tensor
    target: Tensor
    tokens: Tensor


def train_diffusion(
    corpus: LatentCorpus,
    seconds: float,
    report: Callable[[Networks, int], None],
    reports: int = 6,
    seed: int = 0,
    start_from: Networks | None = None,
    bf16: bool = False,
) -> Networks:
    """Train on the corpus's device until `seconds` are over; `reports` times `report(averaged networks, samples)`.

    start_from: networks to go on with, at three quarters of the learning rate; without them all starts at random.
    bf16: compute in bfloat16 (faster where the processor has instructions for it, slower elsewhere; the gradient keeps
    a cosine above 0.999 to the one in float32). torch.compile is not used: with it the cosine was 0.6.
    """
    torch.manual_seed(seed)
    device = corpus.device
    pace = Pace.of(device)
    full_rate = pace.learning_rate * (1 if start_from is None else 0.75)
    networks = (start_from or Networks(build_unet(), build_text_encoder())).to(device)
    unet: Any = networks.unet
    unet.to(memory_format=torch.channels_last)
    if device.type == "cpu":
        # The fused attention's backward is slow on a CPU, most of all in bfloat16; plain matrix products are not.
        unet.set_attn_processor(AttnProcessor())
        networks.text_encoder.set_attn_implementation("eager")
    averaged = copy.deepcopy(networks)
    parameters, averages = networks.parameters(), [p.detach() for p in averaged.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=full_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    scheduler = build_scheduler()
    start, step, paused, next_report = time.monotonic(), 0, 0.0, 1
    workers = ThreadPoolExecutor(pace.workers)
    while (progress := (time.monotonic() - start - paused) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = full_rate * min(1, (step + 1) / 150) * max(0.01, 0.5 * (1 + math.cos(math.pi * progress)))
        batches = _draw_batch(scheduler, corpus, pace)
        results = list(workers.map(lambda batch: _gradients(networks, batch, parameters, bf16), batches))
        for parameter, *gradients in zip(parameters, *(g for _, g in results), strict=True):
            parameter.grad = torch.stack(gradients).mean(0) if len(gradients) > 1 else gradients[0]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(
                averages, [p.detach() for p in parameters], 1 - min(EMA_DECAY, (step + 1) / (step + 10))
            )
        if step % 100 == 0:
            loss = sum(float(loss) for loss, _ in results) / len(results)
            print(f"diffusion {step * pace.batch} samples {progress:.1%} loss {loss:.4f}", flush=True)
        if progress * reports >= next_report:
            before = time.monotonic()
            report(averaged, step * pace.batch)
            paused += time.monotonic() - before
            next_report += 1
    workers.shutdown()
    report(averaged, step * pace.batch)
    return averaged


def _gradients(
    networks: Networks, batch: _Batch, parameters: list[nn.Parameter], bf16: bool
) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of part of a batch."""
    # Without the cache of cast weights: it is shared by all threads, and emptying it from two of them can deadlock.
    with torch.autocast(batch.noisy.device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
        cond = networks.text_encoder(batch.tokens)[0]
        prediction = networks.unet(batch.noisy, batch.timestep, cond).sample
    loss = (prediction.float() - batch.target).square().mean()
    return loss.detach(), list(torch.autograd.grad(loss, parameters))


def _draw_batch(scheduler: Any, corpus: LatentCorpus, pace: Pace) -> list[_Batch]:
    """A batch of `pace.batch` samples in `pace.workers` parts."""
    count, device = pace.batch, corpus.device
    clean, tokens = corpus.draw(count)
    noise = torch.randn_like(clean)
    # Time steps stratified over the batch. A density proportional to t learns shapes a little sooner and textures
    # later; textures are what is learned last.
    quantile = (torch.randperm(count, device=device) + torch.rand(count, device=device)) / count
    timestep = (quantile * 1000).long().clamp(max=999)
    noisy = scheduler.add_noise(clean, noise, timestep).contiguous(memory_format=torch.channels_last)
    target = scheduler.get_velocity(clean, noise, timestep)
    parts = (t.chunk(pace.workers) for t in (noisy, timestep, target, tokens))
    return [_Batch(*part) for part in zip(*parts, strict=True)]
