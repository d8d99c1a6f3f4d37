"""Tensors and facts in one safetensors file that tells when it is damaged, not ours, or of a newer format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

VERSION = 1
"""Of the format of a run's files. A reader refuses a newer one in a sentence."""
_PROGRAM = "textual-inversion run"
_LARGEST = 1 << 30  # bytes
_LONGEST_HEADER = 100 << 20  # bytes, safetensors' own limit
_LENGTH = 8  # bytes in front of the header that hold its length


def seal(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
    """The content of a file. tensors: any, moved to the CPU. facts: ready for JSON, without NaN."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts, allow_nan=False)
    metadata = {"format": _PROGRAM, "version": str(VERSION), "facts": text, "sha256": _digest(on_cpu, text)}
    return save(on_cpu, metadata)


def unseal(path: Path) -> tuple[dict[str, Tensor], Any]:
    """The tensors and facts that `seal` put into a file.

    Raises ValueError with a sentence for a damaged or foreign file or a newer format, OSError where it cannot be read.
    """
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path.name} has more than {_LARGEST >> 30} GiB, which no file of a run has.")
    data = path.read_bytes()
    metadata = _metadata(path.name, data)
    try:
        tensors = load(data)
    except (SafetensorError, KeyError) as error:  # KeyError: a kind of number that torch does not have
        raise _damaged(path.name) from error
    if metadata.get("sha256") != _digest(tensors, metadata["facts"]):
        raise _damaged(path.name)
    return tensors, _facts(path.name, metadata)


def read_facts(path: Path) -> Any:
    """The facts alone, from the head of the file: for lists of many runs. The same errors, but damaged tensors are not
    noticed."""
    with path.open("rb") as file:
        head = file.read(_LENGTH)
        head += file.read(min(int.from_bytes(head, "little"), _LONGEST_HEADER))
    return _facts(path.name, _metadata(path.name, head))


def _metadata(name: str, data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:_LENGTH], "little")
    try:
        header = json.loads(data[_LENGTH : _LENGTH + size]) if len(data) >= _LENGTH + size else None
    except (ValueError, RecursionError) as error:
        raise _damaged(name) from error
    if not isinstance(header, dict):
        raise _damaged(name)
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or metadata.get("format") != _PROGRAM:
        raise ValueError(f"{name} is not a file of a run.")
    version = metadata.get("version", "")
    if version != str(VERSION):
        raise ValueError(
            f"{name} has version {str(version)[:20]} of the format of runs; this program reads version {VERSION}. "
            "Update it to read this run."
        )
    if not isinstance(metadata.get("facts"), str):
        raise _damaged(name)
    return metadata


def _facts(name: str, metadata: Mapping[str, str]) -> Any:
    try:
        return json.loads(metadata["facts"])
    except (ValueError, RecursionError) as error:
        raise _damaged(name) from error


def _damaged(name: str) -> ValueError:
    return ValueError(f"{name} is damaged.")


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
