"""What the nodes say of a run on disk, and of a state that was picked from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...ti_engine import TokenEmbedding, TrainConfig
from ...ti_engine.run.folder import SavedRun
from ...ti_engine.run.key import NOT_IN_KEY
from ...ti_engine.training.result import describe_states
from .embedding_report import printable, size_lines
from .train_report import loss_lines

_ALWAYS_SHOWN = (
    "steps", "learning_rate", "batch_size", "num_vectors", "initial_words", "what", "seed", "resolution",
)  # fmt: skip
_LONGEST_VALUE = 60  # characters


def run_report(saved: SavedRun, about: Mapping[str, Any], place: str, word: TokenEmbedding) -> str:
    """What was trained, how far it came and where it lies; one fact a line.

    about: what config.json holds. place: the folder as a person finds it. word: what the run returned.
    """
    record, settings = saved.record, about.get("settings", {})
    states = describe_states(record.returned)
    if saved.finished:
        lines = [f"{word.placeholder}: {states}. The run is finished, with {saved.step} steps."]
    else:
        lines = [
            f"{word.placeholder}: {states}. The run is not finished: {saved.step} of {settings.get('steps')} steps. "
            "Train Textual Inversion goes on from there if its settings, pictures and models are the same."
        ]
    lines += size_lines(word)
    speed = saved.step / max(saved.seconds, 1e-3)
    lines.append(
        f"Model: {printable(str(about.get('model')))}. {about.get('pictures')} picture(s). Trained for "
        f"{saved.seconds:.0f} s ({speed:.3g} steps a second)."
    )
    lines.append(f"Settings: {_settings(settings)}.")
    lines += loss_lines(record)
    if record.stopped:
        lines.append(f"Ended early: {record.stopped}")
    if about.get("parent"):
        lines.append(f"It started from a word of the run {printable(str(about['parent']))}.")
    lines.append(f"Run {saved.folder.id}, in the folder {place}.")
    return "\n".join([*lines, *(f"Warning: {warning}" for warning in record.warnings)])


def pick_report(
    saved: SavedRun, word: TokenEmbedding, steps: range, prompts: Sequence[str] = (), columns: Sequence[str] = ()
) -> str:
    """Which states the word is of, and what the contact sheet shows; one fact a line.

    steps: whose mean the word is. prompts, columns: the rows and columns of the sheet, empty where there is none.
    """
    end = saved.record.last_state
    lines = [f"{word.placeholder}: {describe_states(steps)} of the run {saved.folder.id}, which has steps 0 to {end}."]
    if saved.record.every > 1:
        lines.append(f"The run took so much room that it keeps the vectors of every {saved.record.every} steps only.")
    if steps != saved.record.returned:
        lines.append(f"The run itself returned {describe_states(saved.record.returned)}.")
    lines += size_lines(word)
    losses = saved.record.evaluations
    known = losses.get(steps[0]) if len(steps) == 1 else None
    if steps == saved.record.returned:
        known = saved.record.result_loss
    if known is not None and 0 in losses:
        lines.append(f"Loss on the fixed evaluation set: {known:.4f}; before training {losses[0]:.4f}.")
    lines += [f"Row {number} of the sheet: {prompt}" for number, prompt in enumerate(prompts, 1)]
    if columns:
        lines.append(f"Columns of the sheet: {', '.join(columns)}.")
    return "\n".join(lines)


def _settings(settings: Mapping[str, Any]) -> str:
    """The settings of Train's widgets, and all others that are not at their default."""
    default = TrainConfig().to_dict()
    shown = [name for name in settings if name in _ALWAYS_SHOWN or settings[name] != default.get(name)]
    return ", ".join(f"{name} {_value(settings[name])}" for name in shown if name not in NOT_IN_KEY)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return f'"{printable(value)[:_LONGEST_VALUE]}"'
    return f"of {len(value)}" if isinstance(value, list) else printable(str(value))
