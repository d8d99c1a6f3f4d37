"""Runs of the toy backend on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toy import ToyBackend, noisy_set, toy_config

from ti_engine import start_run, train
from ti_engine.run.folder import SavedRun
from ti_engine.run.store import RunStore


def toy_run(
    root: Path, run_id: str, until: int | None = None, about: dict[str, Any] | None = None, **settings: Any
) -> SavedRun:
    """A run in a store at `root`, or its first steps `until` a cancel. about: more for its config.json."""
    backend, config = ToyBackend(), toy_config(**settings)
    told = {"settings": config.to_dict(), "model": "toy", "pictures": 4, **(about or {})}
    with RunStore(root).open(run_id, told, False, print) as run:
        run.notes = {"fingerprint": "cd" * 32}
        state = start_run(backend, config)
        run.restore(state)
        for step in train(backend, noisy_set(backend), config, state):
            run.keep(step)
            if step.index == until:
                break
        else:
            run.finish(state, config)
    found = run.folder.read()
    assert found is not None
    return found
