"""--model, --config, --device and --precision, which several commands take."""

from __future__ import annotations

import argparse
import importlib.util
import warnings

import torch

from ..demo.load import load_demo
from ..standalone import DiffusersBackend, load_model

_PRECISIONS = ("float32", "bfloat16", "float16")


def add_model_flags(parser: argparse.ArgumentParser, required: bool = True) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        required=required,
        metavar="MODEL",
        help="demo (the small model that comes with this program), a diffusers folder (Stable Diffusion 1, 2, XL or 3, "
        "Flux.1, the first latent diffusion model), or a single-file checkpoint (.safetensors) of Stable Diffusion 1, "
        "2, XL, 3 or Flux.1",
    )
    group.add_argument(
        "--config",
        metavar="FOLDER",
        help="for a single-file checkpoint: a diffusers folder of the same family. It gives the settings and "
        "tokenizers (its json and txt files are enough), and the weights of parts that are missing from the file, "
        "such as the text encoders and the autoencoder of Flux [settings from diffusers' hub]",
    )
    group.add_argument("--device", help="cpu, cuda, mps, ... [the fastest device of this machine]")
    group.add_argument(
        "--precision",
        choices=_PRECISIONS,
        default=_PRECISIONS[0],
        help="of the model; 16 bits take half the memory. The vectors of the word are always float32 [float32]",
    )


def device_of(arguments: argparse.Namespace) -> str:
    """The device that the flags name, or else the fastest of this machine. ValueError where it is not there."""
    device = arguments.device
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).item()  # "meta" has no numbers
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"There is no device {device!r} here; try --device cpu.") from error
    return device


def open_model(arguments: argparse.Namespace) -> DiffusersBackend:
    """The model that the flags name. ValueError or OSError with a sentence if there is none."""
    device = device_of(arguments)
    _quieten_libraries()
    dtype: torch.dtype = getattr(torch, arguments.precision)
    if arguments.model == "demo":
        return load_demo(device, dtype)
    return load_model(arguments.model, arguments.config, device, dtype)


def _quieten_libraries() -> None:
    """No progress bars, advice and warnings from diffusers and transformers between our own lines."""
    warnings.simplefilter("ignore")
    for name in ("diffusers", "transformers"):
        if importlib.util.find_spec(name) is not None:
            logging = importlib.import_module(f"{name}.utils.logging")
            logging.set_verbosity_error()
            logging.disable_progress_bar()
