"""What training costs on a GPU, inside of the host's own classes with random weights of real shapes.

    python benchmarks/gpu.py --host ~/ComfyUI                       on the GPU, some minutes; nothing is downloaded
    python benchmarks/gpu.py --host ~/ComfyUI --device cpu          the same in small, to try the script

Needs a folder with the host's `comfy` package and what that imports. Prints one line of JSON. For every family, dtype
and way of computing: milliseconds of our step and of the bare one (family_steps.py) in turns, medians; the share of the
text encoders; the peak of memory beside the weights, and what was estimated for it; the cosine of the vectors' gradient
to the one in float32 with the same weights. fp8: of the weights, those of T5 too; they are computed with in bfloat16.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from family_steps import captions_of, latent_shape, steps_of
from host import Models, backend_of, plugin, start_host
from shapes import PUBLISHED
from small_size import FP8, Size
from torch import Tensor

GIB = 2**30


class Case(NamedTuple):
    """share: of the denoiser's weights, what fits on the device beside a step."""

    family: str
    dtype: torch.dtype
    samples: int
    share: float = 1.0


CASES = (
    Case("SD1.5", torch.float16, 1),
    Case("SD1.5", torch.bfloat16, 4),
    Case("SDXL", torch.float16, 1),
    Case("SDXL", torch.bfloat16, 1),
    Case("SDXL", torch.bfloat16, 4),
    Case("SDXL", torch.bfloat16, 1, share=0.5),
    Case("Flux dev", FP8, 1),
    Case("Flux dev", FP8, 1, share=0.5),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", type=Path, default=Path.home() / "ComfyUI")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", help="a part of the names of cases, such as SDXL or bfloat16")
    args = parser.parse_args()
    start_host(args.host.expanduser(), args.device == "cpu")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    began = time.monotonic()
    rows = []
    for case in CASES:
        if not args.only or args.only in f"{case.family} {case.dtype}":
            try:
                rows += measured(case, torch.device(args.device), args.rounds)
            except Exception as error:  # the other cases are worth their time on a borrowed machine
                logging.exception("%s", case)
                rows.append({"case": str(case), "error": f"{type(error).__name__}: {error}"[:500]})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            if args.device == "cuda":
                torch.cuda.empty_cache()
    device = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    facts = {"device": device, "torch": torch.__version__, "seconds": round(time.monotonic() - began, 1)}
    print(json.dumps({**facts, "cases": rows}))


def measured(case: Case, device: torch.device, rounds: int) -> list[dict[str, Any]]:
    """A row without checkpointing and one with it; only the latter where not all weights fit."""
    true_resolution, make, small = PUBLISHED[case.family]
    width, depth, resolution = small if small and device.type == "cpu" else (1, 1, true_resolution)
    models = make(Size(width, depth, case.dtype, filled=True, device=device))
    shape = latent_shape(models, 1, resolution)
    reference = gradient_in_float32(models, case, shape)
    rows = []
    for how in ("off", "on") if case.share == 1 else ("on",):
        backend = backend_of(models)
        with backend.lent(case.samples, shape[1:], how) as lent:
            while lent.loan.bytes_offloaded < (1 - case.share) * models.model.model_size() and lent.load_less():
                pass
            steps = steps_of(lent, shape, case.samples, how)
            needed = peak_beside_weights(steps["ours"], device)
            seconds = interleaved(steps, rounds, device)
            found = gradient_of(lent, case, shape)
        rows.append(
            {
                "case": f"{case.family} {resolution} px x {case.samples}",
                "dtype": str(case.dtype).removeprefix("torch."),
                "checkpointing": how,
                "ours_ms": round(seconds["ours"] * 1e3, 2),
                "bare_ms": round(seconds["bare"] * 1e3, 2),  # checkpointed too, where ours is
                "ours_to_bare": round(seconds["ours"] / seconds["bare"], 3),
                "encoder_share": round(seconds["encoders"] / seconds["ours"], 3),
                "elsewhere_gib": round(lent.loan.bytes_offloaded / GIB, 2),
                "weights_gib": round((models.model.model_size() + models.clip.patcher.model_size()) / GIB, 2),
                "peak_gib": needed and round(needed / GIB, 3),
                "estimate_gib": lent.plan.bytes and round(lent.plan.bytes / GIB, 3),
                "cosine": round(float(torch.cosine_similarity(found, reference, dim=0)), 5),
                "length": round(float(found.norm() / reference.norm()), 4),
            }
        )
    return rows


def gradient_of(backend: Any, case: Case, shape: list[int]) -> Tensor:
    """The gradient of a fixed batch in the vectors of all encoders, each at length 1, end to end."""
    gradients = plugin("ti_engine.training.gradients")
    generator = torch.Generator().manual_seed(5)
    latents, noise = torch.randn(2, case.samples, *shape[1:], generator=generator)
    vectors = {
        key: (torch.randn(1, info.width, generator=generator) * info.rms).requires_grad_(True)
        for key, info in backend.encoders.items()
    }
    levels = backend.schedule.sigmas
    sigma = levels[torch.linspace(len(levels) // 4, len(levels) * 3 // 4, case.samples).long()]
    samples = plugin("ti_engine.training.samples").Samples(latents, noise, sigma, captions_of(case.samples))
    scale = gradients.LossScale(backend.loss_scale, backend.loss_scale)
    ladder = plugin("ti_engine.memory.ladder").Ladder(backend, case.samples, 1, True)
    gradients.compute_gradient(backend, samples, {"S*": vectors}, scale, ladder)
    return torch.cat([rows.grad.flatten() / rows.grad.norm() for rows in vectors.values() if rows.grad is not None])


def gradient_in_float32(models: Models, case: Case, shape: list[int]) -> Tensor:
    """The same with the denoiser in float32, from the same weights."""
    base = models.model.model
    unet, cast = base.diffusion_model, base.manual_cast_dtype
    if case.dtype is FP8:  # four times its size would not fit: every layer casts its weights as it runs
        base.manual_cast_dtype = torch.float32
    else:
        unet.to(torch.float32)
        unet.dtype = torch.float32
    try:
        backend = backend_of(models)
        with backend.lent(case.samples, shape[1:], "on") as lent:
            return gradient_of(lent, case, shape)
    finally:
        base.manual_cast_dtype = cast
        if case.dtype is not FP8:
            unet.to(case.dtype)
            unet.dtype = case.dtype


def peak_beside_weights(step: Callable[[], object], device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    importlib.import_module("comfy.model_management").soft_empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def interleaved(steps: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each, taken in turns."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            wait()
            start = time.perf_counter()
            step()
            wait()
            if number:  # the first is the warm-up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
