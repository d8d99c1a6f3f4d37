"""`python -m ti_engine.demo.build`: train the demo model and the judge, write weights and MODEL_CARD.md.

Ten minutes on a GPU, two hours and a weaker model on two cores. Nothing is downloaded; every picture is drawn.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..judge import WEIGHTS as JUDGE_WEIGHTS
from ..judge import load_judge
from ..model import GUIDANCE, WEIGHTS, build_autoencoder, load_networks, vocabulary_hash
from .autoencoder import reconstruction_psnr, train_autoencoder
from .card import write_card
from .diffusion import Networks, train_diffusion
from .judge import judge_accuracy, train_judge
from .latents import draw_corpus
from .measure import held_out_accuracy, judge_on_photos, other_skills


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ti_engine.demo.build", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/demo"), help="folder for stages that are finished")
    parser.add_argument("--autoencoder-minutes", type=float, default=12)
    parser.add_argument("--judge-minutes", type=float, default=30)
    parser.add_argument("--diffusion-minutes", type=float, default=75)
    parser.add_argument(
        "--device", type=torch.device, default=torch.device("cpu"), help="for the last stage, e.g. cuda"
    )
    parser.add_argument("--scenes", type=int, default=40960, help="drawn for the last stage, a multiple of 1024")
    parser.add_argument("--bf16", action="store_true", help="for processors with bfloat16 instructions: faster")
    parser.add_argument("--go-on", action="store_true", help="train the shipped networks further instead of new ones")
    parser.add_argument("--measure", action="store_true", help="train nothing; measure the shipped weights again")
    parser.add_argument("--no-card", action="store_true", help="do not measure the new weights")
    args = parser.parse_args()
    if not args.measure:
        torch.set_num_threads(1)  # diffusion.py has two workers of its own
        train(args)
    if not args.no_card:
        measure(args.device)


def train(args: argparse.Namespace) -> None:
    """All stages; those whose result lies in the work folder are not repeated."""
    args.work.mkdir(parents=True, exist_ok=True)
    networks = None
    if args.go_on:
        unet, text_encoder, autoencoder = load_networks()
        networks = Networks(unet, text_encoder)
    else:
        autoencoder = _autoencoder(args.work / "autoencoder.safetensors", args.autoencoder_minutes)
    if not JUDGE_WEIGHTS.exists():
        save_file(_packed(train_judge(60 * args.judge_minutes, autoencoder)), JUDGE_WEIGHTS)
    judge = load_judge()
    on_device: Any = autoencoder
    corpus = draw_corpus(on_device.to(args.device), args.scenes, args.device)
    print(f"{args.scenes} scenes are drawn", flush=True)
    shipped = _facts() if args.go_on else {}
    start = time.monotonic() - 60 * float(shipped.get("minutes", 0))

    def report(networks: Networks, samples: int) -> None:
        minutes = (time.monotonic() - start) / 60
        samples += int(shipped.get("samples", 0))
        facts = {"samples": str(samples), "minutes": f"{minutes:.0f}", "vocabulary": vocabulary_hash()}
        facts["device"] = "2 CPU cores" if args.device.type == "cpu" else torch.cuda.get_device_name(args.device)
        save_file(pack_model(networks, autoencoder), WEIGHTS, facts)
        figures = held_out_accuracy(networks, autoencoder, judge, 64)
        print(f"after {samples} samples, {minutes:.0f} min: {figures}", flush=True)

    seconds = 60 * args.diffusion_minutes
    train_diffusion(corpus, seconds, report, start_from=networks, bf16=args.bf16)


def measure(device: torch.device) -> None:
    """Measure the shipped weights and write MODEL_CARD.md. What is drawn by the world itself stays on the CPU."""
    unet, text_encoder, autoencoder = load_networks()
    networks, judge = Networks(unet, text_encoder).to(device), load_judge()
    psnr = reconstruction_psnr(autoencoder, torch.Generator().manual_seed(99))
    on_device: Any = autoencoder
    on_device.to(device)
    generator = torch.Generator().manual_seed(99)
    write_card(
        {
            f"Held-out combinations, guidance {GUIDANCE:g} (n = 384)": held_out_accuracy(
                networks, autoencoder, judge, 384
            ),
            "Held-out combinations, no guidance (n = 384)": held_out_accuracy(networks, autoencoder, judge, 384, 1.0),
            f"Other skills, guidance {GUIDANCE:g} (n = 48 each)": other_skills(networks, autoencoder, judge),
            "The judge itself on drawn photos of single objects (n = 1024)": judge_on_photos(judge),
            "The judge itself on drawn scenes of all kinds (n = 1024)": judge_accuracy(judge, generator),
        },
        psnr=psnr,
        parameters={"text encoder": _count(text_encoder), "UNet": _count(unet), "autoencoder": _count(autoencoder)},
        facts=_facts(),
    )


def _facts() -> dict[str, str]:
    """What the weights file says about its training: samples, minutes, vocabulary."""
    with safe_open(WEIGHTS, "pt") as file:
        return file.metadata() or {}


def pack_model(networks: Networks, autoencoder: AutoencoderTiny) -> dict[str, Tensor]:
    """All weights in half precision under the prefixes that model.py documents."""
    parts = {"unet": networks.unet, "text_encoder": networks.text_encoder, "vae": autoencoder}
    return {f"{prefix}.{key}": value for prefix, module in parts.items() for key, value in _packed(module).items()}


def _packed(module: nn.Module) -> dict[str, Tensor]:
    state = module.state_dict()
    return {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()}


def _autoencoder(path: Path, minutes: float) -> AutoencoderTiny:
    if path.exists():
        autoencoder = build_autoencoder()
        autoencoder.load_state_dict(load_file(path))
        return autoencoder.requires_grad_(False)
    autoencoder = train_autoencoder(60 * minutes)
    save_file({k: v.contiguous() for k, v in autoencoder.state_dict().items()}, path)
    return autoencoder


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


if __name__ == "__main__":
    main()
