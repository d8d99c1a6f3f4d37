"""What one training step costs: ours against the bare model and against a loop as diffusers' example has it.

    python benchmarks/step.py            the demo model
    python benchmarks/step.py --sd15     SD1.5's real size with random weights, 256 px

Interleaved rounds in one process, medians; peak memory of each kind in a process of its own. Ratios travel between
machines, seconds do not.

- bare: forward and backward of the same UNet from the same inputs to the conditioning, nothing else.
- table: every picture through the autoencoder in every step, AdamW with weight decay over the whole token table, and
  the table restored after every update.

Nothing can be faster than bare, so table / bare is the most that table / ours can be. The host's families: ratio.py on
a CPU, gpu.py on a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from ti_engine import TrainConfig, encode_training_set, train
from ti_engine.demo.model import build_scheduler, load_networks
from ti_engine.demo.tokenizer import DemoTokenizer
from ti_engine.standalone import DiffusersBackend, LooseParts

KINDS = ("ours", "bare", "table")


@dataclass(frozen=True)
class Job:
    """The modules that all kinds of step share, and what they learn from."""

    unet: Any
    text_encoder: Any
    autoencoder: Any
    scheduler: Any
    resolution: int
    batch_size: int
    tokens: int  # of a prompt

    def backend(self) -> DiffusersBackend:
        return DiffusersBackend(
            LooseParts(self.unet, self.text_encoder, DemoTokenizer(), self.autoencoder, self.scheduler)
        )

    def pictures(self) -> torch.Tensor:
        return torch.rand(4, 3, self.resolution, self.resolution, generator=torch.Generator().manual_seed(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sd15", action="store_true")
    parser.add_argument("--rounds", type=int, default=0, help="steps of each kind; 0: 15, or 3 with --sd15")
    parser.add_argument("--batch-size", type=int, default=0, help="0: 8, or 1 with --sd15")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the UNet")
    parser.add_argument("--only", choices=KINDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    rounds = args.rounds or (3 if args.sd15 else 15)
    batch_size = args.batch_size or (1 if args.sd15 else 8)
    job = sd15_job(batch_size) if args.sd15 else Job(*load_networks(), build_scheduler(), 128, batch_size, 32)
    dtype = getattr(torch, args.dtype)  # as in the example: the text encoder and its table stay in float32
    job.unet.to(dtype), job.autoencoder.to(dtype)
    makers = {"ours": our_step, "bare": bare_step, "table": table_step}

    if args.only:  # a process of its own, for its peak memory
        step = makers[args.only](job)
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here, not from loading
        before = memory_gib("VmRSS")
        for _ in range(2):
            step()
        print(memory_gib("VmHWM") - before)
        return

    steps = {kind: make(job) for kind, make in makers.items()}
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for step in steps.values():  # warm up
        step()
    for _ in range(rounds):
        for kind, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[kind].append(time.perf_counter() - start)
    median = {kind: statistics.median(values) for kind, values in seconds.items()}
    extra = {kind: peak_of(kind, args) for kind in KINDS}
    size = "SD1.5 size, 256 px" if args.sd15 else "demo model, 128 px"
    print(f"{size}, {args.dtype}, batch {batch_size}, {rounds} rounds")
    print("| step | median s | against ours | memory above the weights, GiB |")
    print("|---|---|---|---|")
    for kind in KINDS:
        print(f"| {kind} | {median[kind]:.4f} | {median[kind] / median['ours']:.2f} x | {extra[kind]:.2f} |")
    print(
        f"ours / bare = {median['ours'] / median['bare']:.3f}, table / ours = {median['table'] / median['ours']:.2f}, "
        f"table / bare = {median['table'] / median['bare']:.2f}"
    )


def our_step(job: Job) -> Callable[[], object]:
    """One update of the engine; early stop and evaluation are left out as in the other kinds."""
    config = TrainConfig(
        steps=100_000, batch_size=job.batch_size, resolution=job.resolution, evaluate_every=0, early_stop=False
    )
    backend = job.backend()
    loop = train(backend, encode_training_set(backend, list(job.pictures()), config), config)
    next(loop)
    return lambda: next(loop)


def bare_step(job: Job) -> Callable[[], object]:
    """Forward and backward of the UNet, from the conditioning on; its weights are frozen."""
    unet = job.unet.requires_grad_(False)
    side = job.resolution // 8
    latents = torch.randn(job.batch_size, 4, side, side, dtype=unet.dtype)
    cond = torch.randn(job.batch_size, job.tokens, unet.config.cross_attention_dim, dtype=unet.dtype)
    cond.requires_grad_(True)
    timestep = torch.randint(1000, (job.batch_size,))

    def step() -> None:
        cond.grad = None
        F.mse_loss(unet(latents, timestep, cond).sample, latents).backward()

    return step


def table_step(job: Job) -> Callable[[], object]:
    """The loop of diffusers' textual-inversion example in plain form, on the same modules."""
    unet, text_encoder = job.unet.requires_grad_(False), job.text_encoder.requires_grad_(False)
    table = text_encoder.get_input_embeddings().weight.requires_grad_(True)
    optimizer = torch.optim.AdamW([table], lr=5e-4, weight_decay=1e-2)
    original = table.detach().clone()
    word = len(table) - 1
    frozen = torch.arange(len(table)) != word
    alphas = job.scheduler.alphas_cumprod
    pictures, encode = job.pictures(), job.backend().encode_pictures

    def step() -> None:
        clean, _ = encode(pictures[torch.randint(len(pictures), (job.batch_size,))])
        noise, timestep = torch.randn_like(clean), torch.randint(1000, (job.batch_size,))
        alpha = alphas[timestep][:, None, None, None]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        ids = torch.full((job.batch_size, job.tokens), word)
        predicted = unet(noisy.to(unet.dtype), timestep, text_encoder(ids)[0].to(unet.dtype)).sample
        F.mse_loss(predicted.float(), noise).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            table[frozen] = original[frozen]

    return step


def sd15_job(batch_size: int) -> Job:
    """Random weights of SD1.5's real shapes."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    text_config = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    autoencoder = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    )
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    unet = UNet2DConditionModel(sample_size=32, cross_attention_dim=768, attention_head_dim=8)
    return Job(unet, CLIPTextModel(text_config), autoencoder, scheduler, 256, batch_size, 77)


def peak_of(kind: str, args: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--only", kind, "--dtype", args.dtype, *(["--sd15"] if args.sd15 else [])]
    if args.batch_size:
        command += ["--batch-size", str(args.batch_size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def memory_gib(name: str) -> float:
    """VmRSS: memory of this process now; VmHWM: its peak. Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 2**20


if __name__ == "__main__":
    main()
