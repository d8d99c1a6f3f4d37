"""How long a press of Run takes to know that the run is on disk already, for a checkpoint of any size.

    python tests/host/inside/true_weights.py sdxl sdxl.safetensors       a checkpoint of true shape, see there
    OMP_NUM_THREADS=1 python benchmarks/lookup.py sdxl.safetensors --host ~/ComfyUI

The checkpoint comes from the host's own loader. Then what the Train node does before it trains: the backend with its
checks and vocabulary statistics, the identity of the models, and the key with five pictures. Medians of the rounds; the
first one apart, because it may have more to do. With --dynamic the models are of the kind that newer hosts load
dynamically on a GPU. One thread, in the process's own time, so that other programs disturb little.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from host import plugin, start_host


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--host", type=Path, default=Path.home() / "ComfyUI")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pixels", type=int, default=1024, help="of a picture's side")
    parser.add_argument("--dynamic", action="store_true")
    args = parser.parse_args()
    start_host(args.host.expanduser(), cpu=True)
    torch.set_num_threads(1)
    model, clip, vae = load(args.checkpoint, args.dynamic)
    parts = [model.model, clip.cond_stage_model, vae.first_stage_model]
    size = sum(weight.nbytes for part in parts for weight in part.parameters())
    memory = importlib.import_module("comfy.model_management")
    backends, keys = plugin("nodes.host.backend"), plugin("ti_engine.run.key")  # not with the first round
    before = len(memory.current_loaded_models)
    pictures, config = list(torch.rand(5, 3, args.pixels, args.pixels)), plugin("ti_engine").TrainConfig()
    seconds: dict[str, list[float]] = {"backend": [], "identity": [], "key": [], "all": []}
    for _ in range(args.rounds + 1):
        with torch.inference_mode(False):
            backend = timed(seconds["backend"], lambda: backends.HostBackend(model, clip, vae))
            models = timed(seconds["identity"], backend.identity)
            timed(seconds["key"], lambda models=models: keys.run_key(models, pictures, [None] * 5, config))
        seconds["all"].append(sum(values[-1] for name, values in seconds.items() if name != "all"))
    print(f"{size / 1e9:.2f} GB of weights, 5 pictures of {args.pixels} px, {args.rounds} rounds")
    print("| part | first, ms | median, ms |")
    print("|---|---|---|")
    for name, (first, *others) in seconds.items():
        print(f"| {name} | {first * 1e3:.0f} | {statistics.median(others) * 1e3:.0f} |")
    print(f"Models that were loaded onto a device meanwhile: {len(memory.current_loaded_models) - before}")


def load(checkpoint: Path, dynamic: bool) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE."""
    patchers, sd = importlib.import_module("comfy.model_patcher"), importlib.import_module("comfy.sd")
    if dynamic:
        usual = patchers.ModelPatcher
        patchers.CoreModelPatcher = type("Dynamic", (usual,), {"is_dynamic": lambda self: True})
    with torch.inference_mode():
        options = {"dtype": torch.float16}  # as on a GPU
        return sd.load_checkpoint_guess_config(
            str(checkpoint), output_vae=True, output_clip=True, model_options=options
        )[:3]


def timed(seconds: list[float], call: Callable[[], Any]) -> Any:
    began = time.process_time()
    value = call()
    seconds.append(time.process_time() - began)
    return value


if __name__ == "__main__":
    main()
