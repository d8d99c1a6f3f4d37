"""Opening a model: the demo model, a diffusers pipeline folder, or a single-file checkpoint of SD1's shape."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from .backend import DiffusersBackend

_INSTALL = "Without ComfyUI diffusers and transformers are needed: install textual-inversion[standalone]."
_PARTS_LEFT_OUT: dict[str, Any] = dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def load_model(
    model: str | Path,
    config: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DiffusersBackend:
    """The model called `model`: "demo", a diffusers folder, or a checkpoint file.

    config: for a checkpoint file, a diffusers folder of the same family whose settings and tokenizer are used (its
    weights are not needed); without it diffusers asks its hub. Nothing is ever downloaded for the others.
    Raises ValueError or FileNotFoundError with one sentence for what cannot be used.
    """
    try:
        import diffusers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ValueError(_INSTALL) from error
    if str(model) == "demo":
        return _load_demo(device, dtype)
    path = Path(model)
    if not path.exists():
        raise FileNotFoundError(f"There is no model {path.name}; give demo, a diffusers folder or a checkpoint file.")
    pipeline = _open_folder(path) if path.is_dir() else _open_file(path, config)
    parts = pipeline.unet, pipeline.text_encoder, pipeline.vae
    if any(part.dtype != dtype for part in parts):
        pipeline.to(dtype)
    pipeline.to(device)
    return DiffusersBackend(
        pipeline.unet,
        pipeline.text_encoder,
        pipeline.tokenizer,
        pipeline.vae,
        pipeline.scheduler,
        name=path.resolve().name if path.is_dir() else path.stem,
        weights_hash=_sha256(_unet_weights(path)) if path.is_dir() else _sha256(path),
    )


def _load_demo(device: str | torch.device, dtype: torch.dtype) -> DiffusersBackend:
    from ..demo import model
    from ..demo.tokenizer import DemoTokenizer

    networks: tuple[Any, Any, Any] = model.load_networks(model.WEIGHTS)
    if dtype != torch.float32:  # diffusers warns where it is asked for the precision that is there already
        networks = tuple(network.to(dtype) for network in networks)  # type: ignore[assignment]
    unet, text_encoder, autoencoder = (network.to(device) for network in networks)
    return DiffusersBackend(
        unet,
        text_encoder,
        DemoTokenizer(),
        autoencoder,
        model.build_scheduler(),
        guidance=model.GUIDANCE,
        name="demo",
        weights_hash=_sha256(model.WEIGHTS),
    )


def _open_folder(folder: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    try:
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        kind = str(index.get("_class_name"))
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{folder.name} is no diffusers pipeline: it has no readable model_index.json.") from error
    if kind != "StableDiffusionPipeline":
        raise ValueError(f"{folder.name} is a {kind}; only StableDiffusionPipeline, SD1's shape, can be used here.")
    known = (None, "diffusers", "transformers", "stable_diffusion")
    foreign = [part for part, origin in index.items() if isinstance(origin, list) and origin[0] not in known]
    if foreign:
        raise ValueError(f"{folder.name} brings code of its own for {', '.join(foreign)}, which is never run.")
    try:
        return StableDiffusionPipeline.from_pretrained(str(folder), local_files_only=True, **_PARTS_LEFT_OUT)
    except Exception as error:  # diffusers raises many kinds for a folder with parts missing or broken
        raise ValueError(f"{folder.name} cannot be opened as a pipeline: {_first_line(error)}") from error


def _open_file(file: Path, config: str | Path | None) -> Any:
    from diffusers import StableDiffusionPipeline

    if file.suffix not in (".safetensors", ".ckpt"):
        raise ValueError(f"{file.name} is no checkpoint; give a .safetensors file, a diffusers folder or demo.")
    if config is not None and not (Path(config) / "model_index.json").is_file():
        raise ValueError(f"--config {Path(config).name} is no diffusers folder: it has no model_index.json.")
    settings = {} if config is None else {"config": str(config), "local_files_only": True}
    try:
        return StableDiffusionPipeline.from_single_file(str(file), **settings, **_PARTS_LEFT_OUT)
    except Exception as error:  # as above; without a network the hub's client adds its own kinds
        cure = (
            "A checkpoint holds no settings and no tokenizer, and the model hub may be out of reach: give a diffusers "
            "folder of the same family with --config (its json and txt files are enough)."
            if config is None
            else "Check that the file is of SD1's shape and that the folder in --config is of the same family."
        )
        raise ValueError(f"{file.name} cannot be opened ({_first_line(error)}). {cure}") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _unet_weights(folder: Path) -> Path | None:
    files = sorted((folder / "unet").glob("*.safetensors")) or sorted((folder / "unet").glob("*.bin"))
    return files[0] if files else None


def _sha256(path: Path | None) -> str | None:
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 22):
            digest.update(block)
        return digest.hexdigest()
