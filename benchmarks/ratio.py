"""What a step of training takes against the bare model, in the host's own classes with a model's true proportions.

    python benchmarks/ratio.py --host ~/ComfyUI                     all models, ten minutes on one core of its own
    python benchmarks/ratio.py --host ~/ComfyUI --only Flux --dtype bfloat16

Needs a folder with the host's `comfy` package and what that imports, and no GPU. The models are smaller than published
(shapes.py) so that a step takes seconds, with the text encoders' share of the work as it is: both are counted and told.

- ours: one update of the engine, without looks at the evaluation set.
- bare: forward and backward of the denoiser alone, called as that update called it, from the same inputs to the
  conditioning, with the same attention and its blocks run as often.
- encoders: what an update does with the text encoders.

One thread, so that milliseconds are the process's own and other programs disturb little; all three in turns. The ratio
is the median of the rounds' ratios, and its spread their middle half.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from flops import counted, latent_shape
from gpu import Models, plugin, start_host
from shapes import PUBLISHED
from small_size import TRUE, Size
from torch import Tensor

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
    channels = models.model.model.latent_format.latent_channels
    backend = plugin("nodes.host.backend").HostBackend(*models, SimpleNamespace(latent_channels=channels))
    with backend.lent(samples, resolution, checkpointing):
        update = our_step(backend, latent_shape(models, 4, resolution), samples, checkpointing)
        for _ in range(3):  # until the loss scale has settled
            update()
        steps = {"ours": update, "bare": bare_step(backend, update), "encoders": encoding_step(backend, samples)}
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for number in range(rounds + 1):
            for name, step in steps.items():
                start = time.process_time()
                step()
                if number:  # the first is the warm-up
                    seconds[name].append(time.process_time() - start)
    ratios = sorted(ours / bare for ours, bare in zip(seconds["ours"], seconds["bare"], strict=True))
    return Figures(*(statistics.median(values) for values in seconds.values()), ratios)


def our_step(backend: Any, latents: list[int], samples: int, checkpointing: str) -> Callable[[], object]:
    engine = plugin("ti_engine")
    mean = torch.randn(latents, generator=torch.Generator().manual_seed(0))
    dataset = engine.TrainingSet(mean, torch.zeros_like(mean), engine.CaptionSource("S*", ["a photo of {}"]), len(mean))
    config = engine.TrainConfig(
        steps=100_000, batch_size=samples, gradient_checkpointing=checkpointing, evaluate_every=0, early_stop=False
    )
    loop = engine.train(backend, dataset, config)
    next(loop)

    def step() -> None:
        if next(loop).record.stopped:
            raise RuntimeError("The run has ended; the weights do not suit this model.")

    return step


def bare_step(backend: Any, update: Callable[[], object]) -> Callable[[], object]:
    """The denoiser as one update calls it, from copies of what it was given."""
    network = backend._patcher.model.diffusion_model
    calls: list[tuple[Any, Any]] = []
    handle = network.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    update()
    handle.remove()
    ((args, kwargs),) = calls
    args, kwargs = [_leaf(value) for value in args], {name: _leaf(value) for name, value in kwargs.items()}
    guard = plugin("ti_engine.overwriting").overwriting_allowed if backend._family.adds_in_place else nullcontext

    def step() -> None:
        for value in [*args, *kwargs.values()]:
            if isinstance(value, Tensor):
                value.grad = None
        with guard():
            answer = network(*args, **kwargs)
        answer.float().square().mean().backward()

    return step


def _leaf(value: Any) -> Any:
    return value.detach().clone().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value


def encoding_step(backend: Any, samples: int) -> Callable[[], object]:
    """To the conditioning, and from its gradient to the vectors."""
    vectors = {key: torch.zeros(1, info.width, requires_grad=True) for key, info in backend.encoders.items()}

    def step() -> None:
        encoded = backend.encode(["a photo of S*"] * samples, "S*", vectors, differentiable=True)
        for entry in encoded.cond.distinct:
            for tensor in entry.values():
                if isinstance(tensor, Tensor) and tensor.requires_grad:
                    tensor.grad = torch.ones_like(tensor)
        encoded.backward()

    return step


if __name__ == "__main__":
    main()
