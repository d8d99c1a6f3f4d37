"""The text that Train Textual Inversion gives out when it is done."""

from __future__ import annotations

from collections.abc import Sequence

from ...ti_engine import TokenEmbedding, TrainConfig, TrainRecord
from ...ti_engine.training.backend import FrozenModels
from ...ti_engine.training.result import describe_states, standard_error
from ...ti_engine.training.start_vectors import start_sentence, trained_encoders
from ...ti_engine.word.families import and_list

_NEAREST = 5
_MOST_STEPS = 5  # that one sentence lists


def train_report(
    backend: FrozenModels,
    config: TrainConfig,
    record: TrainRecord,
    seconds: float,
    warnings: Sequence[str] = (),
    cost: str = "",
    captions: Sequence[str] = (),
    start: TokenEmbedding | None = None,
) -> str:
    """What was learned, how far it came, what it cost, and what to look out for; one fact a line.

    start: the embedding that training started from.
    """
    done = len(record.losses)
    word = record.embedding()
    lines = [
        f"{config.placeholder}: {word.num_vectors} vector(s), learned in {done} of at most {config.steps} steps and "
        f"{seconds:.0f} s ({done / max(seconds, 1e-3):.3g} steps a second): {describe_states(record.returned)}.",
        f"Model: {backend.description}.",
        f"Trained for {' + '.join(trained_encoders(backend, config))}, {config.resolution} px{cost and f', {cost}'}.",
    ]
    lines += captions
    lines.append(start_sentence(backend, config, start))
    if config.class_noun:
        lines.append(f"Write {config.in_prompt()} in prompts: the word was learned with the noun behind it.")
    lines += loss_lines(record)
    if record.stopped:
        lines.append(f"Ended early: {record.stopped}")
    for key, rows in word.vectors.items():
        usual, scale = backend.encoders[key].norm, backend.encoders[key].scale
        if key in trained_encoders(backend, config):
            rate = config.learning_rate
            lines.append(f"Learning rate for {key}: {rate:g} x {scale:.3g}, the scale of its vocabulary.")
        length = float(rows.norm(dim=1).mean())
        lines.append(f"Length of the vectors of {key}: {length:.3g}; a word's is usually {usual:.3g}.")
        for number, row in enumerate(rows, 1):
            nearest = ", ".join(f"{w} {c:.2f}" for w, c in backend.nearest_words(key, row, _NEAREST))
            lines.append(f"Words nearest to vector {number}: {nearest}.")
    return "\n".join([*lines, *(f"Warning: {warning}" for warning in warnings)])


def missing_previews(steps: Sequence[int]) -> list[str]:
    """The warning about previews, by their steps, that did not fit into memory; empty if all did."""
    if not steps:
        return []
    if len(steps) == 1:
        return [f"There was no memory for the preview at step {steps[0]}."]
    listed = [str(step) for step in steps[:_MOST_STEPS]]
    if len(steps) > _MOST_STEPS:
        listed.append(f"{len(steps) - _MOST_STEPS} more")
    return [f"There was no memory for the previews at steps {and_list(listed)}."]


def loss_lines(record: TrainRecord) -> list[str]:
    """A line with the loss before and after training, where both are known."""
    if record.result_losses is None or 0 not in record.sample_losses:
        return []
    before, after = record.sample_losses[0], record.result_losses
    return [
        f"Loss on the fixed evaluation set: {float(before.mean()):.4f} before, {float(after.mean()):.4f} after "
        f"(difference {float((before - after).mean()):.4f}, standard error {standard_error(before - after):.4f})."
    ]
