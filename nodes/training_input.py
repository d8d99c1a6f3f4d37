"""What arrives at the sockets of Train Textual Inversion, as the engine wants it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def split_pictures(batches: Sequence[Tensor]) -> list[Tensor]:
    """IMAGE batches [B, H, W, C] of any sizes as pictures [3, H, W]: grey repeated, transparency over white.

    Cloned, because the host's tensors belong to its cache and to inference mode; in system memory, because some are
    and some are not with --gpu-only. ValueError for what is no IMAGE.
    """
    for batch in batches:
        if not isinstance(batch, Tensor) or batch.ndim != 4:
            found = f"a tensor of shape {list(batch.shape)}" if isinstance(batch, Tensor) else type(batch).__name__
            raise ValueError(f"images was given {found}; connect an IMAGE, such as that of Load Image.")
    return [_to_rgb(picture.float().cpu()).movedim(-1, 0).clone() for batch in batches for picture in batch]


def split_captions(texts: Sequence[str] | None) -> list[str]:
    """The lines of a caption input: the texts of a list, or the lines of one text; empty lines at the end left out."""
    if not texts:
        return []
    lines = list(texts) if len(texts) > 1 else texts[0].splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.strip() for line in lines]


def own_captions_and_templates(
    lines: Sequence[str], what: str, num_pictures: int
) -> tuple[list[str | None], tuple[str, ...]]:
    """Captions for each picture, and templates for all: as many lines as pictures are captions of their own.

    Any other number of lines is only allowed for what = custom, where they are templates. An empty caption leaves that
    picture to the templates. Raises ValueError for a number of captions that fits nothing.
    """
    if len(lines) == num_pictures or not lines:
        return [line or None for line in lines], ()
    if what == "custom":
        return [], tuple(line for line in lines if line)
    raise ValueError(
        f"There are {len(lines)} captions for {num_pictures} pictures. Give one line for each picture, none at all, "
        "or set what to custom to draw from the lines as templates."
    )


def _to_rgb(picture: Tensor) -> Tensor:
    channels = picture.shape[-1]
    if channels in (1, 2):
        grey, alpha = picture[..., :1].expand(*picture.shape[:-1], 3), picture[..., 1:]
        return grey if channels == 1 else grey * alpha + (1 - alpha)
    if channels == 4:
        alpha = picture[..., 3:]
        return picture[..., :3] * alpha + (1 - alpha)
    return picture[..., :3]


def contact_sheet(pictures: Tensor, columns: int = 5) -> Tensor:
    """Pictures [N, H, W, 3] side by side in rows of `columns` as one IMAGE [1, H', W', 3], white where none is."""
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    missing = rows * columns - len(pictures)
    padded = torch.cat([pictures, pictures.new_ones(missing, *pictures.shape[1:])])
    height, width = pictures.shape[1:3]
    grid = padded.reshape(rows, columns, height, width, 3).permute(0, 2, 1, 3, 4)
    return grid.reshape(1, rows * height, columns * width, 3)
