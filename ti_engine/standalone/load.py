"""Opening a model: a diffusers pipeline folder, or a single-file checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from .backend import DiffusersBackend
from .checkpoint import open_file
from .folder import open_folder, reason

_INSTALL = "Without ComfyUI diffusers and transformers are needed: install textual-inversion[standalone]."


def load_model(
    model: str | Path,
    config: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DiffusersBackend:
    """The model in a diffusers folder or a checkpoint file.

    config: for a checkpoint file, a diffusers folder of the same family, whose settings and tokenizers are used, and
    the weights of the parts that the file does not hold; without it the settings are asked for at diffusers' hub.
    Nothing is ever downloaded for a folder.
    dtype: what the networks compute in; what overflows in float16 stays in float32.
    Raises ValueError or FileNotFoundError with one sentence for what cannot be used.
    """
    check_installed()
    path = Path(model)
    if not path.exists():
        raise FileNotFoundError(f"There is no model {path.name}; give demo, a diffusers folder or a checkpoint file.")
    if not path.is_dir() and not path.is_file():  # a pipe would be waited for, a device read without end
        raise ValueError(
            f"{path.name} is neither a file nor a folder; give demo, a diffusers folder or a checkpoint file."
        )
    if path.is_dir():
        pipeline, weights = open_folder(path, dtype)
    else:
        pipeline, weights = open_file(path, config, dtype), path
    _compute_in(pipeline, dtype)
    pipeline.to(device)
    name = path.resolve().name if path.is_dir() else path.stem
    weights_hash = sha256_of(weights)
    try:
        return DiffusersBackend(pipeline, name=name, weights_hash=weights_hash)
    except (TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"The settings of {name} hold a value that cannot be used: {reason(error)}") from error


def _compute_in(pipeline: Any, dtype: torch.dtype) -> None:
    """In float16, some autoencoders and layers of T5 overflow: their own settings say which."""
    for part in pipeline.components.values():
        if not isinstance(part, torch.nn.Module):
            continue
        torch.nn.Module.to(part, dtype)  # not by the library's own, which warns of what is not there
        config: Any = part.config
        if dtype == torch.float16 and getattr(config, "force_upcast", False):
            torch.nn.Module.to(part, torch.float32)
        kept = (dtype == torch.float16 and getattr(part, "_keep_in_fp32_modules", None)) or ()
        for name, module in part.named_modules():
            if name.rpartition(".")[2] in kept:
                module.to(torch.float32)


def sha256_of(path: Path | None) -> str | None:
    """SHA-256 of a file in hex; None where there is none."""
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 22):
            digest.update(block)
        return digest.hexdigest()


def check_installed() -> None:
    """ValueError with what to install, where diffusers or transformers is missing."""
    try:
        import diffusers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ValueError(_INSTALL) from error
