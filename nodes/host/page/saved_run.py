"""A run on disk as a page draws it."""

from __future__ import annotations

from typing import Any

from ...shown.loss_curve import chart_of
from ..run_store import run_store


def message_of(run_id: str) -> dict[str, Any] | None:
    """What was last told about a run, from its folder (see RunProgress); None where there is no such run."""
    folder = run_store().folder(run_id)
    try:
        saved, about = folder.read(), folder.config()
        if saved is None:
            return None
        chart = chart_of(saved.record, int(about["settings"]["steps"]))
    except (ValueError, KeyError, TypeError, OSError):
        return None
    state = "done" if saved.finished else "cancelled"
    sentence = None if saved.finished else saved.record.stopped or "cancelled; Run goes on from here"
    return {**chart, "run": run_id, "state": state, "sentence": sentence, "reused": False}
