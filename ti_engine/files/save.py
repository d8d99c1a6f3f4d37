"""Writing an embedding: safetensors, under the keys that the most programs read."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..embedding import TokenEmbedding
from .atomic import write_atomically
from .metadata import file_metadata

MAX_HEADER = 1 << 20  # bytes; readers in browsers look no further


def save_embedding(embedding: TokenEmbedding, path: str | Path, overwrite: bool = False) -> None:
    """Write `embedding` to `path` (.safetensors), whole or not at all.

    Raises ValueError for another ending or too much metadata, FileExistsError for a file that is there already (unless
    `overwrite`), OSError for what the disk refuses; the text is one sentence each time.
    """
    import safetensors.torch

    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"{path.name} must end in .safetensors; other formats are not written.")
    data = safetensors.torch.save(file_tensors(embedding), file_metadata(embedding))
    header = int.from_bytes(data[:8], "little")
    if header >= MAX_HEADER:
        raise ValueError(f"The metadata takes {header:,} bytes, a file may hold {MAX_HEADER:,}; shorten it.")
    write_atomically(path, data, overwrite)


def file_tensors(embedding: TokenEmbedding) -> dict[str, Tensor]:
    """The vectors under the file's keys: `emb_params` for SD1 and SD2, the encoders' own names for all else."""
    rows = {key: v.detach().cpu().contiguous().clone() for key, v in embedding.vectors.items()}
    if list(rows) in (["clip_l"], ["clip_h"]):
        return {"emb_params": next(iter(rows.values()))}
    return rows
