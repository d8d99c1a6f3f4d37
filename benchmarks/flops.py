"""What a step of training computes at the true shapes of large models, counted without computing it.

    python benchmarks/flops.py --host ~/ComfyUI                  all models, some minutes on one core
    python benchmarks/flops.py --host ~/ComfyUI --only Flux

Needs a folder with the host's `comfy` package and what that imports, and no GPU. Counts the multiplications and
additions of matrix products, convolutions and attention (torch.utils.flop_counter), which hold for every machine.
Prints the table of docs/speed.md. bare: forward and backward of the denoiser alone, from the same inputs to the
conditioning, checkpointed where ours is. whole prompt: the text encoders if what stands in front of every caption were
computed in every step, and their share of the step then.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from family_steps import latent_shape
from host import Models, backend_of, plugin, start_host
from shapes import PUBLISHED
from small_size import TRUE
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

TERA = 1e12


@dataclass
class Work:
    """FLOPs of a step by its parts: text encoders (forward and backward), denoiser (forward; backward)."""

    encoding: int = 0
    denoising: int = 0
    gradient: int = 0

    @property
    def bare(self) -> int:
        return self.denoising + self.gradient

    @property
    def all(self) -> int:
        return self.encoding + self.bare

    @property
    def share(self) -> str:
        return f"{100 * self.encoding / self.all:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", type=Path, default=Path.home() / "ComfyUI")
    parser.add_argument("--only", help="a part of the names of models")
    parser.add_argument("--batch-size", type=int, default=1)
    args = parser.parse_args()
    start_host(args.host.expanduser(), cpu=True)
    print(
        "| model, samples | blocks | denoiser forward | its backward | encoders | share | ours / bare | whole prompt |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name, (resolution, make, _) in PUBLISHED.items():
        if args.only and args.only not in name:
            continue
        models = make(TRUE)
        prefixes = plugin("nodes.host.text.frozen_prefix").prompt_prefixes(models.clip)
        for way in ("once", "twice"):
            work = counted(models, resolution, args.batch_size, way == "twice")
            whole = counted(models, resolution, args.batch_size, way == "twice", whole=True) if prefixes else None
            told = [f"{name}, {resolution} px, {args.batch_size}", way]
            told += [f"{part / TERA:.2f}" for part in (work.denoising, work.gradient, work.encoding)]
            told += [work.share, f"{work.all / work.bare:.3f}"]
            told.append(f"{whole.encoding / TERA:.2f}, {whole.share}" if whole else "")
            print(f"| {' | '.join(told)} |", flush=True)


def counted(models: Models, resolution: int, samples: int, twice: bool, whole: bool = False) -> Work:
    """A step of so many samples with different captions, not the first of a run. twice: with checkpointing; whole: with
    what stands in front of the captions."""
    plan, count = plugin("ti_engine.memory.plan"), plugin("nodes.host.loan.memory_count")
    encode = plugin("nodes.host.text.caption_encoding").encode_captions
    checkpointing = plan.Checkpointing.EVERYTHING if twice else plan.Checkpointing.NONE
    backend = backend_of(models)
    blocks = replace(backend.blocks, prefixes={}) if whole else backend.blocks
    shape = latent_shape(models, samples, resolution)
    work = Work()

    def step() -> None:
        captions = [f"a photo of a S* , {number}" for number in range(samples)]
        vectors = {key: torch.empty(1, info.width, requires_grad=True) for key, info in backend.encoders.items()}
        joins = backend.family.joins_captions
        encode(backend.clip, captions[:1], {"S*": vectors}, False, joins)
        with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
            encoded = encode(backend.clip, captions, {"S*": vectors}, True, joins)
            latents, sigma = torch.empty(*shape), torch.ones(samples)
            work.encoding = counter.get_total_flops()
            denoise = plugin("nodes.host.denoiser").denoise
            loss = denoise(backend.patcher, latents, sigma, encoded.cond, backend.family).sum()
            work.denoising = counter.get_total_flops() - work.encoding
            loss.backward()
            work.gradient = counter.get_total_flops() - work.encoding - work.denoising
            encoded.backward()
            work.encoding = counter.get_total_flops() - work.bare

    if count.counted_stages([models.model, models.clip.patcher], [step], blocks.checkpointed(checkpointing)) is None:
        raise RuntimeError("This step cannot be counted; the host's log says why.")
    return work


def cpu_attention() -> dict[Any, Callable[..., int]]:
    """What torch's counter does not know: the fused attention of a CPU."""

    def forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(given: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_backward_flop_count(given, query, key, value)

    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }


CPU_ATTENTION = cpu_attention()


if __name__ == "__main__":
    main()
