"""The text that Score Images gives out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ...ti_engine.evaluation.intervals import Estimate

_MOST_LISTED = 64  # pictures


@dataclass(frozen=True)
class ImageScores:
    """What Score Images has found. likeness, patches: [N, M], each picture with each reference. cosines: [N], with the
    text, and of_mean the paper's other average; None without a text. Ceilings are None for one reference."""

    likeness: Tensor
    patches: Tensor
    ceiling: Estimate | None
    patches_ceiling: Estimate | None
    cosines: Tensor | None = None
    of_mean: float | None = None


def score_report(
    scores: ImageScores,
    likeness: Estimate,
    patches: Estimate,
    text: tuple[str, Estimate] | None,
    notes: Sequence[str],
    warnings: Sequence[str],
) -> str:
    """The scores with their intervals, then the pictures from the most to the least like the training pictures.

    text: what the pictures were compared with, and the score. notes: what was done to the inputs.
    """
    count, others = scores.likeness.shape
    lines = [
        f"Likeness {likeness}: the mean cosine of {count} picture(s) with {others} training picture(s)"
        f"{_reached(scores.ceiling)}.",
        f"Likeness of patches {patches}{_reached(scores.patches_ceiling)}.",
    ]
    if text is not None and scores.of_mean is not None:
        lines.append(
            f"Text {text[1]}: the mean cosine with {text[0]!r}. Of the mean vector, as the paper averages: "
            f"{scores.of_mean:.3f}."
        )
    lines += [*notes, "In brackets: 95 % intervals by resampling pictures.", "From the most to the least alike:"]
    own, parts = scores.likeness.mean(1), scores.patches.mean(1)
    order = own.argsort(descending=True, stable=True).tolist()
    for number in order[:_MOST_LISTED]:
        line = f"  Picture {number + 1}: likeness {own[number]:.3f}, patches {parts[number]:.3f}"
        lines.append(line if scores.cosines is None else f"{line}, text {scores.cosines[number]:.3f}")
    if count > _MOST_LISTED:
        lines.append(f"  and {count - _MOST_LISTED} more.")
    return "\n".join([*lines, *(f"Warning: {warning}" for warning in warnings)])


def _reached(ceiling: Estimate | None) -> str:
    return "" if ceiling is None else f"; the training pictures reach {ceiling} among themselves"
