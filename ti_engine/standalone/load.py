"""Opening a model: the demo model, a diffusers pipeline folder, or a single-file checkpoint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from .backend import DiffusersBackend
from .families import BY_CLASS, LooseParts, PipelineFamily, said_classes

_INSTALL = "Without ComfyUI diffusers and transformers are needed: install textual-inversion[standalone]."
# What diffusers calls the kinds of checkpoints that it tells apart -> the pipeline that opens them.
_CLASS_OF_CHECKPOINT = {
    "v1": "StableDiffusionPipeline",
    "v2": "StableDiffusionPipeline",
    "xl_base": "StableDiffusionXLPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "sd35_medium": "StableDiffusion3Pipeline",
    "sd35_large": "StableDiffusion3Pipeline",
    "flux-dev": "FluxPipeline",
    "flux-schnell": "FluxPipeline",
}
_T5_OF_SD3 = "text_encoders.t5xxl."


def load_model(
    model: str | Path,
    config: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DiffusersBackend:
    """The model called `model`: "demo", a diffusers folder, or a checkpoint file.

    config: for a checkpoint file, a diffusers folder of the same family whose settings and tokenizer are used (its
    weights are not needed); without it diffusers asks its hub. Nothing is ever downloaded for the others.
    dtype: what the networks compute in; autoencoders that overflow in float16 stay in float32.
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
    if path.is_dir():
        pipeline, weights = _open_folder(path, dtype)
    else:
        pipeline, weights = _open_file(path, config, dtype), path
    if any(part.dtype != dtype for part in pipeline.components.values() if isinstance(part, torch.nn.Module)):
        pipeline.to(dtype)
    autoencoder = getattr(pipeline, "vae", None)
    if dtype == torch.float16 and autoencoder is not None and autoencoder.config.get("force_upcast"):
        autoencoder.to(torch.float32)
    pipeline.to(device)
    name = path.resolve().name if path.is_dir() else path.stem
    return DiffusersBackend(pipeline, name=name, weights_hash=_sha256(weights))


def _load_demo(device: str | torch.device, dtype: torch.dtype) -> DiffusersBackend:
    from ..demo import model
    from ..demo.tokenizer import DemoTokenizer

    networks: tuple[Any, Any, Any] = model.load_networks(model.WEIGHTS)
    if dtype != torch.float32:  # diffusers warns where it is asked for the precision that is there already
        networks = tuple(network.to(dtype) for network in networks)  # type: ignore[assignment]
    unet, text_encoder, autoencoder = (network.to(device) for network in networks)
    parts = LooseParts(unet, text_encoder, DemoTokenizer(), autoencoder, model.build_scheduler())
    return DiffusersBackend(parts, model.GUIDANCE, "demo", _sha256(model.WEIGHTS))


def _open_folder(folder: Path, dtype: torch.dtype) -> tuple[Any, Path | None]:
    """The pipeline, and the file with its network's weights."""
    index = _read_index(folder, f"{folder.name} is no diffusers pipeline: it has no readable model_index.json.")
    kind, family = _known(index, folder.name)
    known = (None, "diffusers", "transformers", family.package)
    foreign = [part for part, origin in index.items() if isinstance(origin, list) and origin[0] not in known]
    if foreign:
        raise ValueError(f"{folder.name} brings code of its own for {', '.join(foreign)}, which is never run.")
    absent = {part: None for part, origin in index.items() if origin == [None, None]}  # such as SD3's T5
    settings = {**_precision(dtype), **absent, **family.left_out}
    try:
        pipeline = _class(kind).from_pretrained(str(folder), local_files_only=True, **settings)
    except Exception as error:  # diffusers raises many kinds for a folder with parts missing or broken
        raise ValueError(f"{folder.name} cannot be opened as a pipeline: {_first_line(error)}") from error
    weights = folder / family.network
    files = sorted(weights.glob("*.safetensors")) or sorted(weights.glob("*.bin"))
    return pipeline, files[0] if files else None


def _open_file(file: Path, config: str | Path | None, dtype: torch.dtype) -> Any:
    if file.suffix not in (".safetensors", ".ckpt"):
        raise ValueError(f"{file.name} is no checkpoint; give a .safetensors file, a diffusers folder or demo.")
    settings: dict[str, Any] = {}
    shapes = _shapes(file)
    if config is None:
        kind, family = _known({"_class_name": _class_of_checkpoint(shapes, file.name)}, file.name)
    else:
        folder = Path(config)
        index = _read_index(folder, f"--config {folder.name} is no diffusers folder: it has no model_index.json.")
        kind, family = _known(index, f"--config {folder.name}")
        settings = {"config": str(config), "local_files_only": True}
    if kind == "StableDiffusion3Pipeline" and not any(key.startswith(_T5_OF_SD3) for key in shapes):
        settings |= {"text_encoder_3": None, "tokenizer_3": None}
    try:
        return _class(kind).from_single_file(str(file), **_precision(dtype), **settings, **family.left_out)
    except Exception as error:  # as above; without a network the hub's client adds its own kinds
        cure = (
            "A checkpoint holds no settings and no tokenizer, and the model hub may be out of reach: give a diffusers "
            "folder of the same family with --config (its json and txt files are enough)."
            if config is None
            else "Check that the file holds a whole model, text encoders and autoencoder too, and that the folder in "
            "--config is of the same family."
        )
        raise ValueError(f"{file.name} cannot be opened ({_first_line(error)}). {cure}") from error


def _read_index(folder: Path, sentence: str) -> dict[str, Any]:
    """The pipeline's list of parts; ValueError with `sentence` if there is none."""
    try:
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(sentence) from error
    if not isinstance(index, dict):
        raise ValueError(sentence)
    return index


def _known(index: dict[str, Any], name: str) -> tuple[str, PipelineFamily]:
    """The pipeline's class and family; ValueError for one that cannot be used."""
    kind = index.get("_class_name")
    if not isinstance(kind, str) or kind not in BY_CLASS:
        raise ValueError(f"{name} is a {kind}; {said_classes()} can be used here.")
    if kind == "LDMTextToImagePipeline" and name.startswith("--config"):
        raise ValueError(f"{name} is a {kind}, which diffusers opens from folders only; give the folder as --model.")
    return kind, BY_CLASS[kind]


def _class(kind: str) -> Any:
    import diffusers

    return getattr(diffusers, kind)


def _precision(dtype: torch.dtype) -> dict[str, torch.dtype]:
    """The argument by the name that this version of diffusers has for it."""
    import diffusers

    version = tuple(int(part) for part in diffusers.__version__.split(".")[:2])
    return {"dtype" if version >= (0, 42) else "torch_dtype": dtype}


def _shapes(file: Path) -> dict[str, torch.Tensor]:
    """Key -> a tensor of its shape without memory; empty for a pickle or a broken file, which diffusers explains."""
    from safetensors import SafetensorError, safe_open

    if file.suffix != ".safetensors":
        return {}
    try:
        with safe_open(file, "pt") as tensors:
            shapes = {key: tensors.get_slice(key).get_shape() for key in tensors.keys()}  # noqa: SIM118
        return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    except (SafetensorError, OSError):
        return {}


def _class_of_checkpoint(shapes: dict[str, torch.Tensor], name: str) -> str:
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type

    kind = infer_diffusers_model_type(shapes)
    if kind not in _CLASS_OF_CHECKPOINT:
        raise ValueError(f"{name} is a checkpoint of the kind {kind}, which cannot be used here.")
    return _CLASS_OF_CHECKPOINT[kind]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _sha256(path: Path | None) -> str | None:
    if path is None or not path.is_file():
        return None
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 22):
            digest.update(block)
        return digest.hexdigest()
