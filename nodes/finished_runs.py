"""Runs that are over, so that a change which does not touch the vectors does not train anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import Tensor

from ..ti_engine import TrainConfig, TrainRecord
from ..ti_engine.data.captions import fill_slot
from ..ti_engine.word.placeholder import split_at_placeholder

_MOST_KEPT = 4
_NO_PART_OF_THE_VECTORS = ("preview_every", "placeholder")


@dataclass(frozen=True)
class FinishedRun:
    """What a run gave."""

    record: TrainRecord
    samples: dict[int, Tensor]
    """Step -> picture [3, H, W] in 0..1."""
    fingerprint: str
    """Of the weights that it was trained with."""
    cost: str
    """How a step was computed and what memory that took; empty if that is not known."""
    seconds: float


class FinishedRuns:
    """The last few runs of this process."""

    def __init__(self) -> None:
        self._runs: dict[str, FinishedRun] = {}

    def get(self, key: str | None) -> FinishedRun | None:
        return self._runs.get(key) if key is not None else None

    def keep(self, key: str | None, run: FinishedRun) -> None:
        """Remember a run that ended by itself: one that trouble ended may go better the next time."""
        if key is None or run.record.last_good is not None:
            return
        self._runs.pop(key, None)  # it becomes the newest
        self._runs[key] = run
        while len(self._runs) > _MOST_KEPT:
            del self._runs[next(iter(self._runs))]


def run_key(
    models: str | None, pictures: Sequence[Tensor], own_captions: Sequence[str | None], config: TrainConfig
) -> str | None:
    """SHA-256 in hex over all that changes the vectors; None where `models` is unknown.

    models: what tells these models from others. The placeholder does not count, nor where captions write it: only the
    texts around it do.
    """
    if models is None:
        return None

    def around_the_word(caption: str) -> list[str]:
        return split_at_placeholder(fill_slot(caption, config.placeholder), config.placeholder)

    settings = {name: value for name, value in asdict(config).items() if name not in _NO_PART_OF_THE_VECTORS}
    settings["templates"] = [around_the_word(text) for text in config.templates]
    captions = [None if text is None else around_the_word(text) for text in own_captions]
    digest = hashlib.sha256(json.dumps([models, settings, captions]).encode())
    for picture in pictures:
        digest.update(str(tuple(picture.shape)).encode())
        digest.update(picture.contiguous().numpy().tobytes())
    return digest.hexdigest()
