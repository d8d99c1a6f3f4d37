"""Writing an embedding: safetensors under the keys that the most programs read, or A1111's picture."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..word.embedding import TokenEmbedding
from ..word.families import family_of, family_title
from .atomic import write_all_atomically
from .formats.metadata import file_metadata, training_record
from .formats.programs import PROGRAMS, tensors_for
from .thumbnail import CARRIER_SIDE

if TYPE_CHECKING:
    from PIL.Image import Image

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
MAX_HEADER = 1 << 20  # bytes; readers in browsers look no further
_NOT_IN_PICTURES = ("format", "modelspec.hash_sha256", "modelspec.thumbnail")  # the picture is its own


def save_embedding(
    embedding: TokenEmbedding,
    path: str | Path,
    overwrite: bool = False,
    program: str | None = None,
    dtype: str = "float32",
    picture: Image | None = None,
) -> list[Path]:
    """Write `embedding` to `path`, whole or not at all; returns the files.

    program: a name in PROGRAMS, for which it is written; by default so that the most programs read it. For diffusers a
        word of several text encoders takes several files: cat.safetensors, cat_2.safetensors.
    dtype: "float32", "float16" or "bfloat16".
    picture: what to see of it where `path` ends in .png, which is A1111's way to carry a word in a picture; by default
        a plain one. Everything else ends in .safetensors.
    Raises ValueError for another ending, too much metadata, or a word that the program cannot take; FileExistsError for
    a file that is there already (unless `overwrite`); OSError for what the disk refuses; one sentence each time.
    """
    path = Path(path)
    if path.suffix.lower() == ".png":
        files = {path: _picture_file(embedding, path, program, dtype, picture)}
    elif path.suffix.lower() == ".safetensors":
        numbered = enumerate(tensors_for(embedding, program), 1)
        files = {
            path if number == 1 else path.with_stem(f"{path.stem}_{number}"): _safetensors_file(
                _stored(tensors, dtype), file_metadata(embedding)
            )
            for number, tensors in numbered
        }
    else:
        pickles = " .pt and .bin are Python pickles, which can carry code and are never written."
        raise ValueError(f"{path.name} must end in .safetensors (or .png, for A1111).{pickles}")
    write_all_atomically(files, overwrite)
    return list(files)


def _stored(tensors: dict[str, Tensor], dtype: str) -> dict[str, Tensor]:
    stored = {name: rows.to(DTYPES[dtype]).contiguous().clone() for name, rows in tensors.items()}
    if not all(bool(rows.isfinite().all()) for rows in stored.values()):
        highest = max(float(rows.abs().max()) for rows in tensors.values())
        raise ValueError(
            f"The vectors hold values up to {highest:.3g}, {dtype} ends at {torch.finfo(DTYPES[dtype]).max:.3g}; "
            "choose float32."
        )
    return stored


def _safetensors_file(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """A safetensors file with its ModelSpec hash: SHA-256 of all bytes behind the header.

    For float32 these are the vectors row by row, little-endian, one encoder after the other by name. The metadata is
    sorted, which the library does not do, so that the same content gives the same file.
    """
    import safetensors.torch

    bare = safetensors.torch.save(tensors)
    begin = 8 + int.from_bytes(bare[:8], "little")
    numbers = bare[begin:]
    metadata = metadata | {"modelspec.hash_sha256": f"0x{hashlib.sha256(numbers).hexdigest()}"}
    content = {"__metadata__": dict(sorted(metadata.items())), **json.loads(bare[8:begin])}
    try:
        header = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise ValueError("The metadata holds characters that are no Unicode text; leave them out.") from error
    header += b" " * (-len(header) % 8)
    if len(header) >= MAX_HEADER:
        raise ValueError(f"The metadata takes {len(header):,} bytes, a file may hold {MAX_HEADER:,}; shorten it.")
    return len(header).to_bytes(8, "little") + header + numbers


def _picture_file(
    embedding: TokenEmbedding, path: Path, program: str | None, dtype: str, picture: Image | None
) -> bytes:
    if program not in (None, "a1111"):
        raise ValueError(f"{PROGRAMS[program].title} reads no words from pictures; end {path.name} in .safetensors.")
    if dtype != "float32":
        raise ValueError(f"The numbers in a picture are written as text, so there is no {dtype}; leave the dtype out.")
    if family_of(embedding) not in ("sd1", "sd2"):
        raise ValueError(
            f"A picture holds a word of SD1 or SD2, and {embedding.placeholder} is one of {family_title(embedding)}; "
            f"end {path.name} in .safetensors."
        )
    from .containers.picture_file import write_picture

    return write_picture(_a1111_content(embedding, path.stem), picture or _blank_picture())


def _a1111_content(embedding: TokenEmbedding, name: str) -> dict[str, Any]:
    """What A1111 keeps of a word, called `name` in its prompts, and our metadata, of which it takes no notice."""
    metadata = file_metadata(embedding)
    record = training_record(metadata)
    step, model = metadata.get("step", record.get("steps")), record.get("model") or {}
    (rows,) = embedding.vectors.values()
    fields = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": rows.detach().cpu().float()},
        "name": name,
        "step": int(step) if step is not None and str(step).isdecimal() else None,
        "sd_checkpoint": metadata.get("sd_checkpoint") or (model.get("sha256") or "")[:10] or None,
        "sd_checkpoint_name": metadata.get("sd_checkpoint_name") or model.get("name"),
    }
    more = {key: metadata[key] for key in sorted(metadata) if key not in (*fields, *_NOT_IN_PICTURES)}
    return fields | more


def _blank_picture() -> Image:
    try:
        from PIL import Image
    except ImportError as error:
        raise ValueError("Pillow is needed for pictures; install it, or end the name in .safetensors.") from error
    return Image.new("RGB", (CARRIER_SIDE, CARRIER_SIDE), (112, 128, 144))
