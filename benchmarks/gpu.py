"""What training costs on a GPU, inside of the host's own classes with random weights of SD1.5's and SDXL's real shapes.

    python benchmarks/gpu.py --host ~/ComfyUI                       on the GPU, about a minute; nothing is downloaded
    python benchmarks/gpu.py --host ~/ComfyUI --device cpu --small  the same in small, to try the script

Needs a folder with the host's `comfy` package and what that imports. Prints one line of JSON. For every family, dtype
and way of computing: milliseconds of our step and of a bare forward and backward of the same UNet from the same inputs,
interleaved, medians; the share of the text encoders; the peak of memory beside the weights, and what was estimated for
it; the cosine of the vectors' gradient to the one in float32 with the same weights.
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
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
GIB = 2**30
BLOCK = 1_000_003  # random numbers that weights are tiled with; a prime, so that rows differ


class Case(NamedTuple):
    """share: of the denoiser's weights, what fits on the device beside a step."""

    family: str
    dtype: torch.dtype
    resolution: int
    batch_size: int
    share: float = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", type=Path, default=Path.home() / "ComfyUI")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="narrow networks and small pictures")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", help="a part of the names of cases, such as SDXL or bfloat16")
    args = parser.parse_args()
    start_host(args.host.expanduser(), args.device == "cpu")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    began = time.monotonic()
    rows = []
    for case in cases(args.small, args.device):
        if not args.only or args.only in f"{case.family} {case.dtype}":
            try:
                rows += measured(case, args.small, args.rounds)
            except Exception as error:  # the other cases are worth their time on a borrowed machine
                logging.exception("%s", case)
                rows.append({"case": str(case), "error": f"{type(error).__name__}: {error}"[:500]})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            if args.device == "cuda":
                torch.cuda.empty_cache()
    device = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    facts = {"device": device, "torch": torch.__version__, "seconds": round(time.monotonic() - began, 1)}
    print(json.dumps({**facts, "cases": rows}))


def cases(small: bool, device: str) -> list[Case]:
    if device == "cpu":
        side = 64 if small else 256
        precisions = (torch.float32, torch.bfloat16)
        return [Case(name, dtype, side, size) for name, size in (("SD1.5", 2), ("SDXL", 1)) for dtype in precisions]
    sizes = {"SD1.5": 64, "SDXL": 64} if small else {"SD1.5": 512, "SDXL": 1024}
    return [
        Case("SD1.5", torch.float16, sizes["SD1.5"], 1),
        Case("SD1.5", torch.bfloat16, sizes["SD1.5"], 4),
        Case("SDXL", torch.float16, sizes["SDXL"], 1),
        Case("SDXL", torch.bfloat16, sizes["SDXL"], 1),
        Case("SDXL", torch.bfloat16, sizes["SDXL"], 1, share=0.5),
    ]


def start_host(folder: Path, cpu: bool) -> None:
    """The host's packages on the path, and this pack beside them without its nodes, which want the host's server."""
    sys.argv = sys.argv[:1]
    sys.path.insert(0, str(folder))
    cli_args = importlib.import_module("comfy.cli_args")
    cli_args.args.cpu = cpu
    logging.getLogger().setLevel(logging.WARNING)
    for name, path in (("ti_plugin", ROOT), ("ti_plugin.nodes", ROOT / "nodes")):
        sys.modules[name] = package = ModuleType(name)
        package.__path__ = [str(path)]


def plugin(name: str) -> Any:
    return importlib.import_module(f"ti_plugin.{name}")


def measured(case: Case, small: bool, rounds: int) -> list[dict[str, Any]]:
    """A row without checkpointing and one with it; only the latter where not all weights fit."""
    models = build(case.family, case.dtype, small)
    reference = gradient(models.model, models.clip, case, torch.float32)
    rows = []
    for how in ("off", "on") if case.share == 1 else ("on",):
        backend = backend_of(models.model, models.clip)
        with backend.lent(case.batch_size, case.resolution, how) as loan:
            while loan.bytes_elsewhere < (1 - case.share) * models.model.model_size() and backend.load_less():
                pass
            synchronize(backend.device)
            ours, bare = our_step(backend, case), bare_step(backend, case)
            encode = encoding_step(backend, case)
            for _ in range(3):  # until the loss scale has settled
                ours()
            needed = peak_beside_weights(ours, backend.device)
            seconds = interleaved({"ours": ours, "bare": bare, "encode": encode}, rounds, backend.device)
            found = gradient_of(backend, case)
        rows.append(
            {
                "case": f"{case.family} {case.resolution} px x {case.batch_size}",
                "dtype": str(case.dtype).removeprefix("torch."),
                "checkpointing": how,
                "ours_ms": round(seconds["ours"] * 1e3, 2),
                "bare_ms": round(seconds["bare"] * 1e3, 2),  # checkpointed too, where ours is
                "ours_to_bare": round(seconds["ours"] / seconds["bare"], 3),
                "encoder_share": round(seconds["encode"] / seconds["ours"], 3),
                "elsewhere_gib": round(loan.bytes_elsewhere / GIB, 2),
                "weights_gib": round((models.model.model_size() + models.clip.patcher.model_size()) / GIB, 2),
                "peak_gib": needed and round(needed / GIB, 3),
                "estimate_gib": backend.plan.bytes and round(backend.plan.bytes / GIB, 3),
                "cosine": round(float(torch.cosine_similarity(found, reference, dim=0)), 5),
                "length": round(float(found.norm() / reference.norm()), 4),
            }
        )
    return rows


def backend_of(model: Any, clip: Any) -> Any:
    return plugin("nodes.host.backend").HostBackend(model, clip, SimpleNamespace(latent_channels=4))


def our_step(backend: Any, case: Case) -> Callable[[], object]:
    """One update of the engine, without looks at the evaluation set."""
    engine = plugin("ti_engine")
    side = case.resolution // 8
    latents = torch.randn(4, 4, side, side, generator=torch.Generator().manual_seed(0))
    dataset = engine.TrainingSet(latents, torch.zeros_like(latents), engine.CaptionSource("S*", ["a photo of {}"]), 4)
    config = engine.TrainConfig(
        steps=100_000, batch_size=case.batch_size, resolution=case.resolution, evaluate_every=0, early_stop=False
    )
    loop = engine.train(backend, dataset, config)
    next(loop)
    return lambda: next(loop)


def bare_step(backend: Any, case: Case) -> Callable[[], object]:
    """Forward and backward of the UNet alone, from what it is given to the conditioning."""
    denoiser = plugin("nodes.host.denoiser")
    unet, dtype = backend._patcher.model.diffusion_model, case.dtype
    side, device = case.resolution // 8, backend.device
    latents = torch.randn(case.batch_size, 4, side, side, device=device, dtype=dtype)
    width = sum(info.width for info in backend.encoders.values())
    cond = torch.randn(case.batch_size, 77, width, device=device, dtype=dtype, requires_grad=True)
    y = None
    if unet.num_classes is not None:
        y = torch.randn(case.batch_size, unet.label_emb[0][0].in_features, device=device, dtype=dtype)
        y.requires_grad_(True)
    timestep = torch.full((case.batch_size,), 500.0, device=device)

    def step() -> None:
        cond.grad = None
        options = {"optimized_attention_override": denoiser._plain_attention}
        unet(latents, timestep, context=cond, y=y, transformer_options=options).float().square().mean().backward()

    return step


def encoding_step(backend: Any, case: Case) -> Callable[[], object]:
    """What a step does with the text encoders: to the conditioning, and from its gradient to the vectors."""
    vectors = {key: torch.zeros(1, info.width, requires_grad=True) for key, info in backend.encoders.items()}

    def step() -> None:
        encoded = backend.encode(["a photo of S*"] * case.batch_size, "S*", vectors, differentiable=True)
        for entry in encoded.cond.distinct:
            for tensor in entry.values():
                if isinstance(tensor, Tensor) and tensor.requires_grad:
                    tensor.grad = torch.ones_like(tensor)
        encoded.backward()

    return step


def gradient_of(backend: Any, case: Case) -> Tensor:
    """The gradient of a fixed batch in the vectors of all encoders, each at length 1, end to end."""
    engine, gradients = plugin("ti_engine"), plugin("ti_engine.gradients")
    generator = torch.Generator().manual_seed(5)
    side = case.resolution // 8
    latents, noise = torch.randn(2, case.batch_size, 4, side, side, generator=generator)
    vectors = {
        key: (torch.randn(1, info.width, generator=generator) * info.rms).requires_grad_(True)
        for key, info in backend.encoders.items()
    }
    levels = backend.schedule.sigmas
    sigma = levels[torch.linspace(len(levels) // 4, len(levels) * 3 // 4, case.batch_size).long()]
    config = engine.TrainConfig(batch_size=case.batch_size, resolution=case.resolution)
    samples = gradients.Samples(latents, noise, sigma, ["a photo of S*"] * case.batch_size)
    gradients.GradientSum(backend, config, vectors).of(samples)
    return torch.cat([rows.grad.flatten() / rows.grad.norm() for rows in vectors.values() if rows.grad is not None])


def gradient(model: Any, clip: Any, case: Case, dtype: torch.dtype) -> Tensor:
    """The same gradient with the denoiser in another precision, from the same weights."""
    unet = model.model.diffusion_model
    unet.to(dtype)
    unet.dtype = dtype
    try:
        backend = backend_of(model, clip)
        with backend.lent(case.batch_size, case.resolution, "on"):
            return gradient_of(backend, case)
    finally:
        unet.to(case.dtype)
        unet.dtype = case.dtype


def peak_beside_weights(step: Callable[[], object], device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    synchronize(device)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    synchronize(device)
    return torch.cuda.max_memory_allocated() - before


def interleaved(steps: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            synchronize(device)
            start = time.perf_counter()
            step()
            synchronize(device)
            if number:  # the first is the warm-up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class Models(NamedTuple):
    model: Any
    clip: Any


def build(family: str, dtype: torch.dtype, small: bool, filled: bool = True) -> Models:
    """Random weights in the host's own classes, or none. Encoders are kept in float16, as the host keeps them."""
    memory = importlib.import_module("comfy.model_management")
    families = importlib.import_module("comfy.supported_models")
    device = memory.get_torch_device()
    width = 32 if small else 320
    common: dict[str, Any] = dict(
        image_size=32, in_channels=4, out_channels=4, model_channels=width, use_spatial_transformer=True,
        use_temporal_attention=False, legacy=False,
    )  # fmt: skip
    if family == "SD1.5":
        settings = dict(
            num_res_blocks=[2] * 4, channel_mult=[1, 2, 4, 4], transformer_depth=[1] * 6 + [0] * 2,
            transformer_depth_output=[1] * 9 + [0] * 3, transformer_depth_middle=1, context_dim=768,
            use_linear_in_transformer=False, adm_in_channels=None, num_heads=8, num_head_channels=-1,
        )  # fmt: skip
        kind = families.SD15
    else:
        settings = dict(
            num_res_blocks=[2] * 3, channel_mult=[1, 2, 4], transformer_depth=[0, 0, 2, 2, 10, 10],
            transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10], transformer_depth_middle=10, context_dim=2048,
            use_linear_in_transformer=True, adm_in_channels=2816, num_classes="sequential",
            num_head_channels=32 if small else 64, num_heads=-1,
        )  # fmt: skip
        kind = families.SDXL
    config = kind({**common, **settings})
    config.set_inference_dtype(dtype, None)
    base = config.get_model({}, "", device=device).eval()  # filled where it is used: minutes faster
    if filled:
        fill(base.diffusion_model)
    patcher = importlib.import_module("comfy.model_patcher").ModelPatcher
    model = patcher(base, load_device=device, offload_device=memory.unet_offload_device())
    sd, target = importlib.import_module("comfy.sd"), importlib.import_module("comfy.supported_models_base").ClipTarget
    if family == "SD1.5":
        one = importlib.import_module("comfy.sd1_clip")
        parts = target(one.SD1Tokenizer, one.SD1ClipModel)
    else:
        two = importlib.import_module("comfy.sdxl_clip")
        parts = target(two.SDXLTokenizer, two.SDXLClipModel)
    clip = sd.CLIP(parts, model_options={"initial_device": device})
    if filled:
        fill(clip.cond_stage_model)
    return Models(model, clip)


@torch.no_grad()
def fill(module: nn.Module) -> None:
    """The host makes layers without values. These keep signals at their size through any depth."""
    block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(1))
    for name, weight in module.named_parameters():
        if not weight.is_floating_point():
            continue
        flat = weight.ndim < 2
        scale = 0.05 if flat else 0.02 if "embedding" in name else 0.7 * weight[0].numel() ** -0.5
        values = (block * scale + (flat and name.endswith("weight"))).to(weight.device, weight.dtype)
        for part in weight.data.view(-1).split(BLOCK):
            part.copy_(values[: len(part)])


if __name__ == "__main__":
    main()
