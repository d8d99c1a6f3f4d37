"""Reading an embedding from safetensors, whoever wrote it. Nothing in a file is ever run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..embedding import TokenEmbedding

MAX_FILE = 64 << 20  # bytes: 4,096 vectors of the widest encoder
MAX_HEADER = 8 << 20
ENCODER_KEYS = ("clip_l", "clip_g", "clip_h", "t5xxl", "llama")
# Where no model is at hand to ask: CLIP ViT-L, ViT-H, ViT-bigG and T5 XXL.
WELL_KNOWN_WIDTHS = {768: "clip_l", 1024: "clip_h", 1280: "clip_g", 4096: "t5xxl"}
_NAMELESS_KEYS = ("emb_params", "emp_params")  # kohya and most others; OneTrainer


def load_embedding(path: str | Path, encoder_for_width: Mapping[int, str] | None = None) -> TokenEmbedding:
    """The word in a safetensors file, in float32, with the file's metadata exactly as it stands there.

    encoder_for_width: the text encoders of the model it is for, width -> key. Without it any width is taken, and one
    that no well-known encoder has keeps the file's key.
    The placeholder is the file's trigger phrase, else the name of its one tensor, else the file's own name.
    Raises ValueError (one sentence) for everything that is no embedding or does not fit, OSError if it cannot be read.
    """
    path = Path(path)
    data = _read(path)
    tensors, metadata = _parse(data, path.name)
    for key, tensor in tensors.items():
        _check_tensor(tensor, key, path.name)
    rows = {key: tensor.reshape(-1, tensor.shape[-1]).float() for key, tensor in tensors.items()}
    if set(rows) <= set(ENCODER_KEYS):
        vectors = {key: rows[key] for key in ENCODER_KEYS if key in rows}
        name = path.stem
        if encoder_for_width is not None:
            _check_encoders(vectors, encoder_for_width, path.name)
    elif len(rows) == 1:
        ((file_key, only),) = rows.items()
        vectors = {_encoder_key(file_key, only, encoder_for_width, path.name): only}
        name = path.stem if file_key in _NAMELESS_KEYS else file_key
    else:
        shown = ", ".join(list(rows)[:3])
        raise ValueError(
            f"{path.name} holds {len(rows)} tensors ({shown}, ...), which is no embedding that can be read."
        )
    try:
        return TokenEmbedding(vectors, metadata.get("modelspec.trigger_phrase") or name, metadata)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def stored_precisions(path: str | Path) -> list[str]:
    """The number formats in a file that `load_embedding` accepts, such as ["float16"]."""
    tensors, _ = _parse(_read(Path(path)), Path(path).name)
    return sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ValueError(f"{path.name} is a folder; name the embedding file in it.")
        if size > MAX_FILE:
            raise ValueError(
                f"{path.name} has {size >> 20} MiB, an embedding at most {MAX_FILE >> 20}; is it a LoRA or a model?"
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no file {path.name}; check the path.") from error
    except OSError as error:
        raise OSError(f"{path.name} cannot be read: {error.strerror or error}.") from error


def _parse(data: bytes, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata; ValueError that says what the file is instead."""
    import safetensors.torch

    if data.startswith(b"version https://git-lfs"):
        raise ValueError(f"{name} is a Git LFS pointer and not the file itself; fetch it with: git lfs pull.")
    if data.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        raise ValueError(f"{name} is a PyTorch pickle (.pt, .bin), which is not read yet; convert it to safetensors.")
    if data[:1] == b"<" and b"<html" in data[:1000].lower():
        raise ValueError(f"{name} is a web page and not an embedding; download the file itself.")
    length = int.from_bytes(data[:8], "little")
    if len(data) < 10 or data[8:9] != b"{":
        raise ValueError(f"{name} is no safetensors file.")
    if length > MAX_HEADER:
        raise ValueError(
            f"{name} announces a header of {length:,} bytes, at most {MAX_HEADER:,} are read; it is broken."
        )
    if len(data) < 8 + length:
        raise ValueError(f"{name} is cut off: {len(data):,} bytes, its header alone has {length:,}; download it again.")
    try:
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
        metadata = dict(header.pop("__metadata__", {}))
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"{name} is no safetensors file: its header cannot be read.") from error
    if not header:
        raise ValueError(f"{name} holds no tensor, so it is no embedding.")
    if isinstance(end, int) and len(data) < 8 + length + end:
        raise ValueError(f"{name} is cut off: {len(data):,} of {8 + length + end:,} bytes; download it again.")
    try:
        return safetensors.torch.load(data), metadata
    except Exception as error:  # safetensors' own error type, or a dtype that torch or it does not know
        raise ValueError(f"{name} is no safetensors file that can be read ({error}).") from error


def _check_tensor(tensor: Tensor, key: str, name: str) -> None:
    if not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(f"{name}: the tensor {key!r} holds {kind} and not floating point numbers; it is no embedding.")
    if tensor.ndim not in (1, 2):
        raise ValueError(f"{name}: the tensor {key!r} has shape {list(tensor.shape)}; embeddings are [vectors, width].")
    if 0 in tensor.shape:
        raise ValueError(f"{name}: the tensor {key!r} of shape {list(tensor.shape)} holds no vector.")
    if not bool(tensor.to(torch.float32).isfinite().all()):
        raise ValueError(f"{name}: the tensor {key!r} contains NaN or infinity; the file is broken.")


def _check_encoders(vectors: Mapping[str, Tensor], encoder_for_width: Mapping[int, str], name: str) -> None:
    had = {key: rows.shape[1] for key, rows in vectors.items()}
    wanted = {key: width for width, key in encoder_for_width.items()}
    if had != wanted:
        raise ValueError(f"{name} holds vectors of {_told(had)}; this model takes {_told(wanted)}.")


def _encoder_key(file_key: str, rows: Tensor, encoder_for_width: Mapping[int, str] | None, name: str) -> str:
    width = rows.shape[1]
    if encoder_for_width is None:
        return WELL_KNOWN_WIDTHS.get(width, file_key)
    if width in encoder_for_width and len(encoder_for_width) == 1:
        return encoder_for_width[width]
    wanted = _told({key: w for w, key in encoder_for_width.items()})
    raise ValueError(f"{name} holds vectors of width {width}; this model takes {wanted}.")


def _told(widths: Mapping[str, int]) -> str:
    return " and ".join(f"width {width} ({key})" for key, width in widths.items())
