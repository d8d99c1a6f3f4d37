"""Runs on disk as a page draws them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ....ti_engine.run.folder import RunFolder, is_run_id
from ...run_entries import chosen_run, listed_runs
from ...shown.loss_curve import chart_of
from ..run_store import run_store
from .progress import RunProgress

_MOST_LISTED = 12  # runs of which a page shows a picture


def newest_runs() -> list[dict[str, Any]]:
    """The newest runs, each as its entry in the list of Load Run, id, word, date, steps, and last picture or None."""
    store = run_store()
    return [
        {
            "entry": run.entry,
            "run": run.folder.id,
            "word": run.word,
            "date": run.date,
            "steps": run.steps,
            "picture": (pictures_of(run.folder) or [None])[-1],
        }
        for run in listed_runs(store)[:_MOST_LISTED]
    ]


def message_of(run_id: str) -> dict[str, Any]:
    """What was last told about a run, from memory or from its folder (see RunProgress), and its `pictures`.

    run_id: its id, or the beginning of it. Raises ValueError with a sentence where there is no such run, or where it
    cannot be read.
    """
    if not is_run_id(run_id):
        run_id = chosen_run(run_store(), run_id).id
    folder = run_store().folder(run_id)
    message = RunProgress.last_message(run_id)
    if message is None or message["state"] != "running":  # the folder knows more, such as that somebody has deleted it
        message = _saved_message(folder)
    return {**message, "pictures": pictures_of(folder)}


def pictures_of(folder: RunFolder) -> list[dict[str, Any]]:
    """The previews in the order of their steps, None for the step of the result, as pages ask the host for pictures."""
    return [
        {"step": step, "written": _written(file), "type": "output", "filename": file.name,
         "subfolder": f"{folder.path.parent.name}/{folder.id}/{file.parent.name}"}
        for step, file in folder.preview_files()
    ]  # fmt: skip


def _saved_message(folder: RunFolder) -> dict[str, Any]:
    saved = folder.saved()
    try:
        chart = chart_of(saved.record, int(folder.config()["settings"]["steps"]))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"The run {folder.id} cannot be read: config.json is damaged or missing.") from error
    state = "done" if saved.finished else "cancelled"
    sentence = None if saved.finished else saved.record.stopped or "cancelled; Run goes on from here"
    return {**chart, "run": folder.id, "state": state, "sentence": sentence, "reused": False}


def _written(file: Path) -> int:
    """Changes when the file is written again, so that a page does not show what it has kept of the old one."""
    try:
        return file.stat().st_mtime_ns // 1_000_000  # pages cannot hold more digits
    except OSError:
        return 0
