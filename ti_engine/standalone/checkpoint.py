"""Checkpoint files: which parts of a model are in one, and a pipeline of them and of a folder for the rest.

A file by the model's authors, or by ComfyUI, holds numbers only. What they mean is in a diffusers folder of the same
family: the settings of the parts, the tokenizers, and the weights of the parts that the file does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..word.families import and_list
from .families import PipelineFamily
from .folder import Index, absent_parts, part_class, pipeline_class, precision, read_index, reason, weights_of

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
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")
_SETTINGS = ("*.json", "*.txt", "*.model", "**/*.json", "**/*.txt", "**/*.model")
# What the keys of a part begin with. A network alone in a file often goes without.
_NETWORK = "model.diffusion_model."
_AUTOENCODER = ("first_stage_model.", "vae.")
_ENCODERS = {
    "clip_l": ("cond_stage_model.", "conditioner.embedders.0.", "text_encoders.clip_l."),
    "clip_g": ("conditioner.embedders.1.", "text_encoders.clip_g."),
    "t5xxl": ("text_encoders.t5xxl.",),
}
_T5 = "text_encoders.t5xxl.transformer."
_V, _ZERO_SNR = "v_pred", "ztsnr"  # empty tensors by which files of SDXL's shape say what they predict
_EDM = "edm_vpred.sigma_max"
# Keys of numbers that mean something only together with others: fp8 with scales, 4 bits.
_PACKED = ("scaled_fp8", "scale_weight", "weight_scale", "comfy_quant", "absmax")


def open_file(file: Path, config: str | Path | None, dtype: torch.dtype) -> Any:
    """The pipeline of a checkpoint file.

    config: a diffusers folder; without it diffusers' choice for this kind of file is asked for at its hub. A part that
    is not in the file comes from the folder. ValueError with one sentence for what cannot be used.
    """
    if file.suffix.lower() in _PICKLES:
        raise ValueError(
            f"{file.name} is a pickle, which can run code when it is opened, so it is not read; give the model's "
            ".safetensors version, or convert it to one (ComfyUI's Save Checkpoint node writes one)."
        )
    if file.suffix != ".safetensors":  # in small letters: diffusers takes any other ending for a pickle
        raise ValueError(f"{file.name} is no checkpoint; give a .safetensors file, a diffusers folder or demo.")
    shapes = _shapes(file)
    kind = _kind(shapes, file.name)
    folder = Path(config) if config is not None else _settings_from_hub(kind or "v1", file.name)
    called = f"--config {folder.name}" if config is not None else "the hub's folder"
    index, family = read_index(folder, called, f"{called} is no diffusers folder: it has no")
    wanted = index["_class_name"]
    if wanted == "LDMTextToImagePipeline":
        raise ValueError(
            f"{called} is a {wanted}, which diffusers opens from folders only; give the folder as --model."
        )
    if kind is not None and _CLASS_OF_CHECKPOINT[kind] != wanted:
        fits = _CLASS_OF_CHECKPOINT[kind]
        raise ValueError(
            f"{file.name} is a checkpoint for a {fits}, and {called} is a {wanted}; they must be the same."
        )
    held = {part: count for part, count in _held(shapes, family).items() if index.get(part) != [None, None]}
    if family.network not in held:
        raise ValueError(
            f"{file.name} holds {and_list(list(held)) or 'nothing that is known here'} and no {family.network}; give "
            "the checkpoint of the model itself."
        )
    settings = {**family.left_out, **absent_parts(folder, index, family)}
    settings |= _from_folder(folder, index, family, held, file.name)
    try:
        t5 = family.encoders.get("t5xxl")
        if t5 is not None and t5.network in held:
            settings.pop(t5.tokenizer, None)
            settings[t5.network] = _t5(file, part_class(index, t5.network), folder / t5.network)
            del held[t5.network]  # nothing of it was missing
        pipeline = pipeline_class(index).from_single_file(
            str(file), config=str(folder), local_files_only=True, **precision(dtype), **settings
        )
    except Exception as error:  # diffusers raises many kinds for files and folders that do not belong together
        raise ValueError(
            f"{file.name} cannot be opened with {called} ({reason(error)}); check that it is a whole model of the same "
            "family."
        ) from error
    _check_whole(pipeline, held, family.network, file.name, called)
    if _V in shapes:
        zero = _ZERO_SNR in shapes
        pipeline.scheduler = type(pipeline.scheduler).from_config(
            pipeline.scheduler.config, prediction_type="v_prediction", rescale_betas_zero_snr=zero
        )
    return pipeline


def _shapes(file: Path) -> dict[str, Tensor]:
    """Key -> a tensor of its shape without memory. ValueError for a broken file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as tensors:
            shapes = {key: tensors.get_slice(key).get_shape() for key in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file.name} is no whole safetensors file ({reason(error)}); download it again.") from error
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def _kind(shapes: Mapping[str, Tensor], name: str) -> str | None:
    """A key of _CLASS_OF_CHECKPOINT; None where the file shows no family. ValueError for one that cannot be used."""
    from diffusers.loaders.single_file_utils import CHECKPOINT_KEY_NAMES, infer_diffusers_model_type

    packed = next((key for key in shapes if key.endswith(_PACKED)), None)
    if packed is not None:
        raise ValueError(
            f"{name} holds packed weights ({packed}), which are not unpacked here; use a version in float16, bfloat16 "
            "or plain float8, or train inside ComfyUI."
        )
    if _EDM in shapes:
        raise ValueError(f"{name} is a model in the EDM formulation (CosXL), which cannot be used here.")
    try:
        kind = infer_diffusers_model_type(shapes)
    except Exception:  # it takes for granted that a family's other keys are there
        return None
    if kind not in _CLASS_OF_CHECKPOINT:
        raise ValueError(f"{name} is a checkpoint of the kind {kind}, which cannot be used here.")
    return kind if kind != "v1" or CHECKPOINT_KEY_NAMES["v1"] in shapes else None  # "v1" is also its last guess


def _settings_from_hub(kind: str, name: str) -> Path:
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS
    from huggingface_hub import snapshot_download

    repository = DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"]
    try:
        return Path(snapshot_download(repository, allow_patterns=list(_SETTINGS)))
    except Exception as error:  # without a network the hub's client has many kinds
        raise ValueError(
            f"{name} holds no settings and no tokenizer, as all checkpoints, and {repository} is out of reach. Give a "
            "diffusers folder of the same family with --config (of parts that are in the file, its json and txt files "
            "are enough)."
        ) from error


def _held(shapes: Mapping[str, Tensor], family: PipelineFamily) -> dict[str, int]:
    """The parts that are in the file, each with how many numbers it has there."""
    places = {family.autoencoder: _AUTOENCODER}
    places |= {place.network: _ENCODERS[key] for key, place in family.encoders.items()}
    others = tuple(begin for begins in places.values() for begin in begins)
    bare = {key: shape for key, shape in shapes.items() if not key.startswith(others)}
    counts = {part: _count(shapes, begins) for part, begins in places.items()}
    counts[family.network] = _count(shapes, (_NETWORK,)) or _count(bare)
    return {part: count for part, count in counts.items() if count}


def _count(tensors: Mapping[str, Tensor], begins: tuple[str, ...] = ("",)) -> int:
    """Numbers in those whose keys begin so, but for a text's projection: SD3's files leave out that of clip_l, which is
    the identity.
    """
    return sum(t.numel() for key, t in tensors.items() if key.startswith(begins) and "text_projection" not in key)


def _from_folder(
    folder: Path, index: Index, family: PipelineFamily, held: Mapping[str, int], name: str
) -> dict[str, Any]:
    """The parts that are not in the file. ValueError for those that are not in the folder either."""
    places = [place for place in family.encoders.values() if place.network not in held]
    wanted = [place.network for place in places if not place.optional or weights_of(folder, place.network)]
    wanted += [family.autoencoder] if family.autoencoder not in held else []
    missing = [part for part in wanted if not weights_of(folder, part)]
    if missing:
        raise ValueError(
            f"{name} holds no {and_list(missing)}; give --config a diffusers folder of {family.title} that has the "
            f"weights of {'them' if len(missing) > 1 else 'it'}."
        )
    try:
        return {
            part: part_class(index, part).from_pretrained(str(folder / part), local_files_only=True) for part in wanted
        }
    except Exception as error:
        raise ValueError(f"--config {folder.name} cannot be used: {reason(error)}") from error


def _t5(file: Path, network_class: Any, settings: Path) -> Any:
    """T5 out of the file. Diffusers wants its token table twice, and files have it once or twice."""
    from safetensors import safe_open

    config = network_class.config_class.from_pretrained(str(settings), local_files_only=True)
    with torch.device("meta"):
        network = network_class(config)
    with safe_open(file, "pt") as tensors:
        keys = [key for key in tensors.keys() if key.startswith(_T5)]  # noqa: SIM118
        weights = {key.removeprefix(_T5): tensors.get_tensor(key) for key in keys}
    if "shared.weight" in weights:
        weights["encoder.embed_tokens.weight"] = weights["shared.weight"]
    network.load_state_dict(weights, assign=True)
    return network.train(False)


def _check_whole(pipeline: Any, held: Mapping[str, int], network: str, name: str, called: str) -> None:
    """ValueError where parts do not have as many numbers as their settings ask for: diffusers leaves random ones in
    the gaps and drops what is too much, without a word. How they are arranged differs, how many there are does not.
    """
    for part, count in held.items():
        wanted = _count(getattr(pipeline, part).state_dict())
        if count < wanted or (part == network and count > wanted):
            raise ValueError(
                f"{name} has {count:,} numbers for the {part} where {called} asks for {wanted:,}; they are different "
                "models, or the file is not whole."
            )
