"""Runs on disk as text: a line for each, aligned, and their sizes and ages in few letters."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ..run.store import RunSummary, short_ids
from .terminal import printable

_LONGEST_WORD = 20  # characters
_TITLES = ("ID", "WORD", "PICTURES", "STEPS", "STATE", "SIZE", "AGE")
_TO_THE_RIGHT = ("PICTURES", "STEPS", "SIZE", "AGE")
_AGES = ((86400, "day"), (3600, "hour"), (60, "minute"))  # seconds


def run_content(run: RunSummary) -> dict[str, Any]:
    """What is known of a run without reading it whole, ready for JSON."""
    about, facts = run.about, run.facts
    settings = about.get("settings")
    return {
        "id": run.folder.id,
        "folder": str(run.folder.path),
        "word": facts["placeholder"],
        "pictures": about.get("pictures"),
        "steps": facts["step"],
        "asked_steps": settings.get("steps") if isinstance(settings, dict) else None,
        "finished": facts["finished"],
        "stopped": facts["stopped"],
        "seconds": facts["seconds"],
        "bytes": run.size,
        "written": datetime.fromtimestamp(run.written, timezone.utc).isoformat(timespec="seconds"),
        "began": about.get("began"),
        "parent": about.get("parent"),
        "model": about.get("model"),
    }


def run_table(runs: Sequence[RunSummary], ids: Sequence[str], now: float) -> str:
    """A line for each run under a line of titles. ids: of all runs. now: in seconds since 1970."""
    short = short_ids(ids)
    lines = [_TITLES, *(_cells(run, short, now) for run in runs)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            (" " * (width - _width(cell)) + cell) if title in _TO_THE_RIGHT else cell + " " * (width - _width(cell))
            for cell, width, title in zip(line, widths, _TITLES, strict=True)
        ).rstrip()
        for line in lines
    )


def run_sentence(run: RunSummary, now: float) -> str:
    """What a run is, for a sentence that has named it."""
    content = run_content(run)
    age = age_text(now - run.written)
    return f"{_word(content)}, {steps_text(content)} steps, {size_text(run.size)}, {age} old"


def steps_text(content: dict[str, Any]) -> str:
    asked = content["asked_steps"]
    return str(content["steps"]) if asked is None else f"{content['steps']} of {asked}"


def state_text(content: dict[str, Any]) -> str:
    return "finished" if content["finished"] else "unfinished"


def size_text(size: float) -> str:
    """Bytes in a unit that leaves one to three digits before the point."""
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 9.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def age_text(seconds: float) -> str:
    for unit, name in _AGES:
        if (count := int(seconds // unit)) >= 1:
            return f"{count} {name}{'s' * (count > 1)}"
    return "seconds"


def _cells(run: RunSummary, short: Mapping[str, str], now: float) -> tuple[str, ...]:
    content = run_content(run)
    pictures = content["pictures"]
    return (
        short[run.folder.id],
        _word(content),
        str(pictures) if isinstance(pictures, int) else "?",
        steps_text(content),
        state_text(content),
        size_text(run.size),
        age_text(now - run.written),
    )


def _word(content: dict[str, Any]) -> str:
    return printable(str(content["word"]), _LONGEST_WORD)


def _width(text: str) -> int:
    """Columns that a text takes up in a terminal."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))
