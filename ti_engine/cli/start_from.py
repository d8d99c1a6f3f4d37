"""`--init-from`: an embedding to start from, out of a file or out of a run on disk."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from ..files import load_embedding
from ..run.pick import pick_word
from ..run.store import RunStore
from ..word.embedding import TokenEmbedding

_RUN = re.compile(r"[0-9a-f]{4,32}")


def read_start(
    source: str, store: RunStore, encoder_for_width: Mapping[int, str]
) -> tuple[TokenEmbedding, dict[str, str]]:
    """The word to start from, and where it is from, for the record of the training: "file" and "sha256", or "run" and
    "steps", those that the run returned.

    source: a file, or, where no file is called so, the beginning of a run's id. Errors as of `load_embedding` and
    `RunStore.find` and `RunFolder.saved`.
    """
    path = Path(source)
    if _RUN.fullmatch(source) and not path.exists():
        saved = store.find(source).saved()
        if not saved.step:
            raise ValueError(f"The run {saved.folder.id} has made no step yet, so there is nothing to start from.")
        first, last = saved.record.returned[0], saved.record.returned[-1]
        return pick_word(saved, None), {"run": saved.folder.id, "steps": f"{first} to {last}"}
    start = load_embedding(path, encoder_for_width)
    return start, {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
