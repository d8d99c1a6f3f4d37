"""Why an update must not be made."""

from __future__ import annotations

import math

from .gradients import all_finite, gradients_of
from .state import RunState


def gradient_problem(state: RunState, loss: float) -> tuple[str, int] | None:
    """Of the next update: the reason as a sentence, and the last step whose vectors are good; None if it may be made.

    Where the loss is not finite, the vectors of the step before gave it, so the good ones are one step older.
    """
    step, gradients = state.step + 1, gradients_of(state.vectors)
    if not math.isfinite(loss) or not all_finite(gradients):
        what = "gradient is not finite" if math.isfinite(loss) else f"loss became {loss}"
        last_good = step - 1 if math.isfinite(loss) else max(0, step - 2)
        if step == 1:  # before any update, so no learning rate can be the cause
            return (
                f"The {what} at step 1, before anything was learned. A model in float16 may not hold its own numbers: "
                "load it in float32 or bfloat16. One that is in these already is broken, or its weights are."
            ), last_good
        return f"The {what} at step {step}; the vectors from before are kept. Lower the learning rate.", last_good
    if not any(bool(gradient.any()) for gradient in gradients):
        return (
            "The gradient of the word is exactly zero, so nothing can be learned: the word does not reach the model, "
            "or the model's precision swallows it."
        ), step - 1
    return None
