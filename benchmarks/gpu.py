"""What training costs on a GPU, inside of the host's own classes with random weights of real shapes.

    python benchmarks/gpu.py --host ~/ComfyUI                       on the GPU, some minutes; nothing is downloaded
    python benchmarks/gpu.py --host ~/ComfyUI --device cpu --small  the same in small, to try the script

Needs a folder with the host's `comfy` package and what that imports. Prints one line of JSON. For every family, dtype
and way of computing: milliseconds of our step and of a bare forward and backward of the same denoiser from the same
inputs, interleaved, medians; the share of the text encoders; the peak of memory beside the weights, and what was
estimated for it; the cosine of the vectors' gradient to the one in float32 with the same weights. fp8: of the weights,
those of T5 too; they are computed with in bfloat16.
"""

from __future__ import annotations

import argparse
import contextlib
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
FP8 = torch.float8_e4m3fn
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
        Case("SDXL", torch.bfloat16, sizes["SDXL"], 4),
        Case("SDXL", torch.bfloat16, sizes["SDXL"], 1, share=0.5),
        Case("Flux", FP8, sizes["SDXL"], 1),
        Case("Flux", FP8, sizes["SDXL"], 1, share=0.5),
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
    channels = model.model.latent_format.latent_channels
    return plugin("nodes.host.backend").HostBackend(model, clip, SimpleNamespace(latent_channels=channels))


def latents_of(backend: Any, case: Case, samples: int) -> Tensor:
    channels, side = backend._family.latent_channels, case.resolution // 8
    return torch.randn(samples, channels, side, side, generator=torch.Generator().manual_seed(0))


def our_step(backend: Any, case: Case) -> Callable[[], object]:
    """One update of the engine, without looks at the evaluation set."""
    engine, captions = plugin("ti_engine"), plugin("ti_engine.captions")
    latents = latents_of(backend, case, 4)
    source = engine.CaptionSource("S*", captions.OBJECT_TEMPLATES)
    dataset = engine.TrainingSet(latents, torch.zeros_like(latents), source, 4)
    config = engine.TrainConfig(
        steps=100_000, batch_size=case.batch_size, resolution=case.resolution, evaluate_every=0, early_stop=False
    )
    loop = engine.train(backend, dataset, config)
    next(loop)
    return lambda: next(loop)


def bare_step(backend: Any, case: Case) -> Callable[[], object]:
    """Forward and backward of the denoiser alone, from the same inputs to the conditioning."""
    overwriting = plugin("ti_engine.overwriting").overwriting_allowed
    network, calls = backend._patcher.model.diffusion_model, []

    def seen(_: nn.Module, *call: Any) -> None:
        calls.append(call)
        raise _InputsKnownError

    hook = network.register_forward_pre_hook(seen, with_kwargs=True)
    vectors = {key: torch.zeros(1, info.width, requires_grad=True) for key, info in backend.encoders.items()}
    encoded = backend.encode(captions_of(case), "S*", vectors, differentiable=True)
    with contextlib.suppress(_InputsKnownError), hook:
        backend.denoise(latents_of(backend, case, case.batch_size), torch.ones(case.batch_size), encoded.cond)
    (args, named), conditioning = calls[0], []

    def leaf(value: Any) -> Any:
        if isinstance(value, Tensor) and value.requires_grad:
            conditioning.append(value := value.detach().requires_grad_(True))
        return value

    args, named = tuple(leaf(value) for value in args), {name: leaf(value) for name, value in named.items()}

    def step() -> None:
        with overwriting() if backend._family.adds_in_place else contextlib.nullcontext():
            estimate = network(*args, **named)
        torch.autograd.grad(estimate.float().square().mean(), conditioning)

    return step


class _InputsKnownError(Exception):
    """The inputs of the denoiser are known."""


def captions_of(case: Case) -> list[str]:
    templates = plugin("ti_engine.captions").OBJECT_TEMPLATES
    return [template.replace("{}", "S*") for template in templates[: case.batch_size]]


def encoding_step(backend: Any, case: Case) -> Callable[[], object]:
    """What a step does with the text encoders: to the conditioning, and from its gradient to the vectors."""
    vectors = {key: torch.zeros(1, info.width, requires_grad=True) for key, info in backend.encoders.items()}

    def step() -> None:
        encoded = backend.encode(captions_of(case), "S*", vectors, differentiable=True)
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
    latents, noise = latents_of(backend, case, 2 * case.batch_size).chunk(2)
    vectors = {
        key: (torch.randn(1, info.width, generator=generator) * info.rms).requires_grad_(True)
        for key, info in backend.encoders.items()
    }
    levels = backend.schedule.sigmas
    sigma = levels[torch.linspace(len(levels) // 4, len(levels) * 3 // 4, case.batch_size).long()]
    config = engine.TrainConfig(batch_size=case.batch_size, resolution=case.resolution)
    gradients.GradientSum(backend, config, vectors).of(gradients.Samples(latents, noise, sigma, captions_of(case)))
    return torch.cat([rows.grad.flatten() / rows.grad.norm() for rows in vectors.values() if rows.grad is not None])


def gradient(model: Any, clip: Any, case: Case, dtype: torch.dtype) -> Tensor:
    """The same gradient with the denoiser in another precision, from the same weights."""
    unet, cast = model.model.diffusion_model, model.model.manual_cast_dtype
    if case.dtype is FP8:  # four times its size would not fit: every layer casts its weights as it runs
        model.model.manual_cast_dtype = dtype
    else:
        unet.to(dtype)
        unet.dtype = dtype
    try:
        backend = backend_of(model, clip)
        with backend.lent(case.batch_size, case.resolution, "on"):
            return gradient_of(backend, case)
    finally:
        model.model.manual_cast_dtype = cast
        if case.dtype is not FP8:
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
    """Random weights in the host's own classes, or none. CLIP is kept in float16, as the host keeps it."""
    memory = importlib.import_module("comfy.model_management")
    families = importlib.import_module("comfy.supported_models")
    device = memory.get_torch_device()
    kind, settings, (tokenizer, encoders) = SHAPES[family](small)
    config = getattr(families, kind)(settings)
    config.set_inference_dtype(dtype, torch.bfloat16 if dtype is FP8 else None)
    base = config.get_model({}, "", device=device).eval()  # filled where it is used: minutes faster
    if filled:
        fill(base.diffusion_model)
    patcher = importlib.import_module("comfy.model_patcher").ModelPatcher
    model = patcher(base, load_device=device, offload_device=memory.unet_offload_device())
    sd, target = importlib.import_module("comfy.sd"), importlib.import_module("comfy.supported_models_base").ClipTarget
    clip = sd.CLIP(target(tokenizer, encoders), model_options={"initial_device": device})
    if filled:
        fill(clip.cond_stage_model)
    return Models(model, clip)


def unet_shape(small: bool, **settings: Any) -> dict[str, Any]:
    common: dict[str, Any] = dict(
        image_size=32, in_channels=4, out_channels=4, model_channels=32 if small else 320,
        use_spatial_transformer=True, use_temporal_attention=False, legacy=False,
    )  # fmt: skip
    return {**common, **settings}


def sd15(small: bool) -> Shape:
    one = importlib.import_module("comfy.sd1_clip")
    settings = unet_shape(
        small, num_res_blocks=[2] * 4, channel_mult=[1, 2, 4, 4], transformer_depth=[1] * 6 + [0] * 2,
        transformer_depth_output=[1] * 9 + [0] * 3, transformer_depth_middle=1, context_dim=768,
        use_linear_in_transformer=False, adm_in_channels=None, num_heads=8, num_head_channels=-1,
    )  # fmt: skip
    return "SD15", settings, (one.SD1Tokenizer, one.SD1ClipModel)


def sdxl(small: bool) -> Shape:
    two = importlib.import_module("comfy.sdxl_clip")
    settings = unet_shape(
        small, num_res_blocks=[2] * 3, channel_mult=[1, 2, 4], transformer_depth=[0, 0, 2, 2, 10, 10],
        transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10], transformer_depth_middle=10, context_dim=2048,
        use_linear_in_transformer=True, adm_in_channels=2816, num_classes="sequential",
        num_head_channels=32 if small else 64, num_heads=-1,
    )  # fmt: skip
    return "SDXL", settings, (two.SDXLTokenizer, two.SDXLClipModel)


def flux(small: bool) -> Shape:
    encoders = importlib.import_module("comfy.text_encoders.flux")
    settings: dict[str, Any] = dict(
        image_model="flux", in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=4096,
        hidden_size=256 if small else 3072, mlp_ratio=4.0, num_heads=2 if small else 24, depth=1 if small else 19,
        depth_single_blocks=1 if small else 38, axes_dim=[16, 56, 56], theta=10000, patch_size=2, qkv_bias=True,
        guidance_embed=True, txt_ids_dims=[],
    )  # fmt: skip
    return "Flux", settings, (encoders.FluxTokenizer, encoders.flux_clip(dtype_t5=FP8))


Shape = tuple[str, dict[str, Any], tuple[Any, Any]]  # the host's family, its settings, tokenizer and text encoders
SHAPES: dict[str, Callable[[bool], Shape]] = {"SD1.5": sd15, "SDXL": sdxl, "Flux": flux}


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
