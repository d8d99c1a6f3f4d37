"""What one training step costs: ours against the bare model and against a loop as diffusers' example has it.

    python benchmarks/step.py            the demo model
    python benchmarks/step.py --sd15     a UNet, text encoder and autoencoder of SD1.5's real size, random weights, 256 px

Interleaved rounds in one process, medians; peak memory of each kind in a process of its own. Ratios travel between
machines, seconds do not.

- bare: forward and backward of the same UNet from the same inputs to the conditioning, nothing else.
- table: every picture through the autoencoder in every step, AdamW with weight decay over the whole token table, and
  the table restored after every update.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from ti_engine import TrainConfig, encode_training_set, train
from ti_engine.standalone import DiffusersBackend, load_model

KINDS = ("ours", "bare", "table")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sd15", action="store_true")
    parser.add_argument("--rounds", type=int, default=0, help="steps of each kind; 0: 15, or 3 with --sd15")
    parser.add_argument("--batch-size", type=int, default=0, help="0: 8, or 1 with --sd15")
    parser.add_argument("--only", choices=KINDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    rounds = args.rounds or (3 if args.sd15 else 15)
    batch_size = args.batch_size or (1 if args.sd15 else 8)
    backend = sd15_backend() if args.sd15 else load_model("demo")
    resolution = 256 if args.sd15 else 128
    pictures = list(torch.rand(4, 3, resolution, resolution, generator=torch.Generator().manual_seed(0)))
    makers = {"ours": our_step, "bare": bare_step, "table": table_step}

    if args.only:  # a process of its own, for its peak memory
        before = peak_gib()
        step = makers[args.only](backend, pictures, resolution, batch_size)
        for _ in range(2):
            step()
        print(peak_gib() - before)
        return

    steps = {kind: make(backend, pictures, resolution, batch_size) for kind, make in makers.items()}
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
    print(f"{'SD1.5 size, 256 px' if args.sd15 else 'demo model, 128 px'}, batch {batch_size}, {rounds} rounds")
    print("| step | median s | against ours | memory above the weights, GiB |")
    print("|---|---|---|---|")
    for kind in KINDS:
        print(f"| {kind} | {median[kind]:.4f} | {median[kind] / median['ours']:.2f} x | {extra[kind]:.2f} |")
    print(f"ours / bare = {median['ours'] / median['bare']:.3f}, table / ours = {median['table'] / median['ours']:.2f}")


def our_step(backend: DiffusersBackend, pictures: list, resolution: int, batch_size: int) -> Callable[[], None]:
    """One update of the engine, early stop and evaluation left out as in the other kinds."""
    config = TrainConfig(
        steps=100_000, batch_size=batch_size, resolution=resolution, evaluate_every=0, early_stop=False
    )
    loop = train(backend, encode_training_set(backend, pictures, config), config)
    next(loop)
    return lambda: next(loop) and None


def bare_step(backend: DiffusersBackend, pictures: list, resolution: int, batch_size: int) -> Callable[[], None]:
    unet = backend.unet
    latents = torch.randn(batch_size, unet.config.in_channels, resolution // 8, resolution // 8)
    tokens = backend.tokenizer_length
    cond = torch.randn(batch_size, tokens, unet.config.cross_attention_dim, requires_grad=True)
    timestep = torch.randint(1000, (batch_size,))

    def step() -> None:
        cond.grad = None
        F.mse_loss(unet(latents, timestep, cond).sample, latents).backward()

    return step


def table_step(backend: DiffusersBackend, pictures: list, resolution: int, batch_size: int) -> Callable[[], None]:
    """The loop of diffusers' textual-inversion example in plain form, on the same frozen modules."""
    unet, text_encoder, vae = backend.unet, backend.text_encoder, backend.vae
    table = text_encoder.get_input_embeddings().weight
    table.requires_grad_(True)
    optimizer = torch.optim.AdamW([table], lr=5e-4, weight_decay=1e-2)
    original = table.detach().clone()
    word = len(table) - 1
    frozen = torch.arange(len(table)) != word
    alphas = 1 / (1 + backend.schedule.sigmas**2)
    stacked = torch.stack(pictures)

    def step() -> None:
        table.requires_grad_(True)
        batch = stacked[torch.randint(len(stacked), (batch_size,))]
        with torch.no_grad():
            mean, _ = backend.encode_pictures(batch)
        noise, timestep = torch.randn_like(mean), torch.randint(1000, (batch_size,))
        alpha = alphas[timestep][:, None, None, None]
        noisy = alpha.sqrt() * mean + (1 - alpha).sqrt() * noise
        ids = torch.full((batch_size, backend.tokenizer_length), word)
        F.mse_loss(unet(noisy, timestep, text_encoder(ids)[0]).sample, noise).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            table[frozen] = original[frozen]
        table.requires_grad_(False)

    del vae
    return step


def sd15_backend() -> DiffusersBackend:
    """Random weights of SD1.5's real shapes."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from ti_engine.demo.tokenizer import DemoTokenizer

    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=32, cross_attention_dim=768, attention_head_dim=8)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
        )
    )
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=0.18215,
    )
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    return DiffusersBackend(unet, text_encoder, DemoTokenizer(), vae, scheduler)


def peak_of(kind: str, args: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--only", kind, *(["--sd15"] if args.sd15 else [])]
    if args.batch_size:
        command += ["--batch-size", str(args.batch_size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
