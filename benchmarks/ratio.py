"""What a step of training takes against the bare model, in the host's own classes with a model's true proportions.

    python benchmarks/ratio.py --host ~/ComfyUI                     all models, ten minutes on one core of its own
    python benchmarks/ratio.py --host ~/ComfyUI --only Flux --dtype bfloat16

Needs a folder with the host's `comfy` package and what that imports, and no GPU. The models are smaller than published
(shapes.py) so that a step takes seconds, with the text encoders' share of the work as it is: both are counted and told.
What is compared, and how: family_steps.py.

One thread, so that milliseconds are the process's own and other programs disturb little; all three in turns. The ratio
is the median of the rounds' ratios, and its spread their middle half.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch
from family_steps import latent_shape, steps_of
from flops import counted
from host import Models, backend_of, start_host
from shapes import PUBLISHED
from small_size import TRUE, Size

PRECISIONS = ("float32", "bfloat16", "float16")  # the last on CPUs that have it; others take a hundred times as long


class Figures(NamedTuple):
    """Medians in seconds; ratios of ours to bare, ascending."""

    ours: float
    bare: float
    encoders: float
    ratios: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", type=Path, default=Path.home() / "ComfyUI")
    parser.add_argument("--only", help="a part of the names of models")
    parser.add_argument("--dtype", choices=PRECISIONS, nargs="*", default=PRECISIONS[:2], help="of the denoiser")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--checkpointing", choices=("off", "on"), default="off")
    parser.add_argument("--true-size", action="store_true", help="minutes a step")
    args = parser.parse_args()
    start_host(args.host.expanduser(), cpu=True)
    torch.set_num_threads(1)
    print("| model, samples | precision | ours | bare | ours / bare | middle half | encoders | counted | published |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for name, (true_resolution, make, small) in PUBLISHED.items():
        if small is None or (args.only and args.only not in name):
            continue
        width, depth, resolution = (1, 1, true_resolution) if args.true_size else small
        twice = args.checkpointing == "on"
        true = counted(make(TRUE), true_resolution, args.batch_size, twice)
        for precision in args.dtype:
            models = make(Size(width, depth, getattr(torch, precision), filled=True))
            work = counted(models, resolution, args.batch_size, twice)
            found = measured(models, resolution, args.batch_size, args.checkpointing, args.rounds)
            low, middle, high = statistics.quantiles(found.ratios, n=4)
            told = [
                f"{name}, {resolution} px, {args.batch_size}",
                precision,
                f"{found.ours * 1e3:.0f} ms",
                f"{found.bare * 1e3:.0f} ms",
                f"{middle:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{found.encoders / found.ours:.1%}",
                f"{work.encoding / work.all:.1%}, {work.all / work.bare:.3f}",
                f"{true.encoding / true.all:.1%}, {true.all / true.bare:.3f}",
            ]
            print(f"| {' | '.join(told)} |", flush=True)


def measured(models: Models, resolution: int, samples: int, checkpointing: str, rounds: int) -> Figures:
    backend = backend_of(models)
    latents = latent_shape(models, 1, resolution)
    with backend.lent(samples, latents[1:], checkpointing) as lent:
        steps = steps_of(lent, latents, samples, checkpointing)
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for number in range(rounds + 1):
            for name, step in steps.items():
                start = time.process_time()
                step()
                if number:  # the first is the warm-up
                    seconds[name].append(time.process_time() - start)
    ratios = sorted(ours / bare for ours, bare in zip(seconds["ours"], seconds["bare"], strict=True))
    return Figures(*(statistics.median(values) for values in seconds.values()), ratios)


if __name__ == "__main__":
    main()
