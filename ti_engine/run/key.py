"""The key of a run: one for each set of everything that changes its vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.captions import fill_slot
from ..training.config import TrainConfig
from ..word.embedding import TokenEmbedding
from ..word.placeholder import split_at_placeholder

RULES = 1
"""Rises when the same settings give other vectors than before, so that no run of an older engine is taken for a new."""

NOT_IN_KEY = (
    "preview_every",
    "evaluate_every",
    "placeholder",
    "caption_lines",  # only says how captions are read; what was read is in the key
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "if_exists",
    "runs_gb",
)
"""Settings that do not change the vectors."""


def run_key(
    models: str,
    pictures: Sequence[Tensor],
    own_captions: Sequence[str | None],
    config: TrainConfig,
    start: TokenEmbedding | None = None,
) -> str:
    """32 hex digits of the SHA-256 over all that changes the vectors of a run.

    models: what tells these models, with their patches, from others. pictures: [3, H, W] each, as they were given.
    own_captions: a picture's caption or None. start: the embedding that the vectors start from.

    The placeholder does not count, nor where captions write it: only the texts around it do. The number of steps counts
    only where the learning rate or an early end depends on it (`steps_matter`).
    """
    settings = {name: value for name, value in config.to_dict().items() if name not in NOT_IN_KEY}
    if not config.class_noun:
        del settings["class_noun"]  # runs from before there was one are found
    if not steps_matter(config):
        del settings["steps"]
    settings["templates"] = [_around_the_word(text, config) for text in config.templates]
    captions = [None if text is None else _around_the_word(text, config) for text in own_captions]
    digest = hashlib.sha256(json.dumps([RULES, models, settings, captions]).encode())
    for picture in pictures:
        _add(digest, picture)
    for key, rows in sorted(({} if start is None else start.vectors).items()):
        digest.update(key.encode())
        _add(digest, rows)
    return digest.hexdigest()[:32]


def steps_matter(config: TrainConfig) -> bool:
    """Whether the first updates of a run would differ if it were to make more of them."""
    return config.schedule != "constant" or config.early_stop


def _around_the_word(caption: str, config: TrainConfig) -> list[str]:
    return split_at_placeholder(fill_slot(caption, config.placeholder), config.placeholder)


def _add(digest: Any, tensor: Tensor) -> None:
    digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
    digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
