"""All that is known of one run on disk: for `textual-inversion runs show`."""

from __future__ import annotations

from typing import Any

from ..run.folder import SavedRun
from ..run.store import summary
from ..training.config import TrainConfig
from ..training.result import describe_states
from .run_text import run_content, size_text, state_text, steps_text
from .terminal import printable


def run_details(saved: SavedRun) -> dict[str, Any]:
    """Ready for JSON. Raises ValueError for a damaged config.json."""
    content, record = run_content(summary(saved.folder, saved.facts)), saved.record
    about = saved.folder.config()
    return {
        **content,
        **{name: about.get(name) for name in ("picture_names", "captions", "started_from", "settings", "program")},
        "returned_steps": [record.returned[0], record.returned[-1]],
        "evaluation_loss": {"before": record.evaluations.get(0), "after": record.result_loss},
        "evaluations": record.evaluations,
        "previews": sorted(file.name for file in (saved.folder.path / "previews").glob("*.png")),
        "notes": saved.notes,
    }


def run_details_text(details: dict[str, Any]) -> str:
    """For people: a line for each fact."""
    first, last = details["returned_steps"]
    before, after = details["evaluation_loss"]["before"], details["evaluation_loss"]["after"]
    captions = [caption for caption in details["captions"] or () if caption]
    lines = {
        "run": details["id"],
        "word": details["word"],
        "state": f"{state_text(details)}, {steps_text(details)} steps in {details['seconds']:.0f} s",
        "ended": details["stopped"],
        "returns": describe_states(range(first, last + 1)),
        "loss": None if before is None else f"{before:.4f} before" + ("" if after is None else f", {after:.4f} after"),
        "model": details["model"],
        "pictures": _pictures(details),
        "captions": f"{len(captions)} of the pictures' own, such as: {captions[0]}" if captions else None,
        "settings": _changed_settings(details["settings"]),
        "started from": _source(details["started_from"]),
        "began": details["began"],
        "last written": details["written"],
        "previews": str(len(details["previews"])),
        "size": size_text(details["bytes"]),
        "folder": details["folder"],
    }
    width = max(map(len, lines)) + 2
    return "\n".join(f"{name + ':':{width}}{printable(str(text))}" for name, text in lines.items() if text)


def _pictures(details: dict[str, Any]) -> str:
    names = details["picture_names"]
    return str(details["pictures"]) + (f": {', '.join(map(str, names))}" if names else "")


def _changed_settings(settings: Any) -> str:
    if not isinstance(settings, dict):
        return ""
    usual = TrainConfig().to_dict()
    changed = [f"{name} {value}" for name, value in settings.items() if usual.get(name) != value]
    return ", ".join(changed) or "the defaults"


def _source(started_from: Any) -> str:
    """Of the vectors that the run started from."""
    if not isinstance(started_from, dict):
        return ""
    if "run" in started_from:
        return f"the run {started_from['run']}, steps {started_from.get('steps')}"
    return str(started_from.get("file"))
