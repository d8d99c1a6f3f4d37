"""What a step of training needs at the true shapes of SD1.5, SDXL and Flux, counted without allocating it.

    python benchmarks/memory.py --host ~/ComfyUI

Needs a folder with the host's `comfy` package and what that imports, and no GPU. The weights are asked for and never
touched, so they take address space and no memory. Prints the table of docs/memory.md.
"""

from __future__ import annotations

import argparse
import importlib
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from gpu import Models, build, plugin, start_host

GB = 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", type=Path, default=Path.home() / "ComfyUI")
    start_host(parser.parse_args().host.expanduser(), cpu=True)
    print("| model, one sample | weights | keeps everything | encoders twice | blocks twice too |")
    print("|---|---|---|---|---|")
    for name, resolution, models in (
        ("SD1.5, float16, 512 px", 512, build("SD1.5", torch.float16, small=False, filled=False)),
        ("SDXL, bfloat16, 1024 px", 1024, build("SDXL", torch.bfloat16, small=False, filled=False)),
        ("Flux, fp8 weights, T5 in fp8, 1024 px", 1024, flux()),
    ):
        print(row(name, resolution, models))


def row(name: str, resolution: int, models: Models) -> str:
    plan, count = plugin("ti_engine.memory_plan"), plugin("nodes.host.memory_count")
    channels = models.model.model.latent_format.latent_channels
    backend = plugin("nodes.host.backend").HostBackend(*models, SimpleNamespace(latent_channels=channels))
    patchers = [models.model, models.clip.patcher]
    weights = sum(patcher.model_size() for patcher in patchers)
    cells = []
    for way in plan.Recompute:
        step = backend._step_on_nothing(backend._latent_shape(1, resolution))
        needed = count.counted_step(patchers, step, backend._blocks.recomputed(way))
        cells.append(f"{needed / GB:.2f} GB" if needed is not None else "not counted")
    return f"| {name} | {weights / GB:.2f} GB | {' | '.join(cells)} |"


def flux() -> Models:
    families, model = importlib.import_module("comfy.supported_models"), importlib.import_module("comfy.ldm.flux.model")
    newer: dict[str, Any] = {"txt_ids_dims": []} if "txt_ids_dims" in {f.name for f in fields(model.FluxParams)} else {}
    config = families.Flux(
        dict(
            image_model="flux", in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=4096, hidden_size=3072,
            mlp_ratio=4.0, num_heads=24, depth=19, depth_single_blocks=38, axes_dim=[16, 56, 56], theta=10000,
            patch_size=2, qkv_bias=True, guidance_embed=True, **newer,
        )
    )  # fmt: skip
    config.set_inference_dtype(torch.float8_e4m3fn, torch.bfloat16)
    cpu = torch.device("cpu")
    patcher = importlib.import_module("comfy.model_patcher").ModelPatcher
    base = patcher(config.get_model({}, "", device=cpu).eval(), load_device=cpu, offload_device=cpu)
    encoders = importlib.import_module("comfy.text_encoders.flux")
    target = importlib.import_module("comfy.supported_models_base").ClipTarget
    parts = target(encoders.FluxTokenizer, encoders.flux_clip(dtype_t5=torch.float8_e4m3fn))
    return Models(base, importlib.import_module("comfy.sd").CLIP(parts))


if __name__ == "__main__":
    main()
