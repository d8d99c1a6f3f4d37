"""What arrives at the sockets of Train Textual Inversion, as the engine wants it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..ti_engine.data.caption_files import split_lines
from ..ti_engine.data.transparency import over_white, transparency_warnings


def split_pictures(batches: Sequence[Tensor]) -> tuple[list[Tensor], list[str]]:
    """IMAGE batches [B, H, W, C] of any sizes as pictures [3, H, W], transparency over white; and warnings.

    Cloned, because the host's tensors belong to its cache and to inference mode; in system memory, because some are
    and some are not with --gpu-only. ValueError for what is no IMAGE.
    """
    for batch in batches:
        if not isinstance(batch, Tensor) or batch.ndim != 4:
            found = f"a tensor of shape {list(batch.shape)}" if isinstance(batch, Tensor) else type(batch).__name__
            raise ValueError(f"images was given {found}; connect an IMAGE, such as that of Load Image.")
    pictures = [picture.float().cpu().movedim(-1, 0) for batch in batches for picture in batch]
    names = picture_names(len(pictures))
    warnings = [w for picture, name in zip(pictures, names, strict=True) for w in transparency_warnings(picture, name)]
    return [over_white(picture).clone() for picture in pictures], warnings


def picture_names(count: int) -> list[str]:
    """What messages and captions call pictures that come without file names."""
    return [f"Picture {number}" for number in range(1, count + 1)]


def caption_lines(texts: Sequence[str] | None) -> list[str]:
    """A caption input as lines: the texts of a list, or the lines of one text."""
    if not texts:
        return []
    return [" ".join(split_lines(text)) for text in texts] if len(texts) > 1 else split_lines(texts[0])
