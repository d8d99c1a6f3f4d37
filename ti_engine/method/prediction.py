"""What a model was trained to predict: its target, the clean latents in its answer, and how errors of both compare.

All in the notation of Karras et al. 2022 (arXiv 2206.00364): s is the noise level sigma, c the standard deviation of
the data (`sigma_data`). Noisy latents are latents + s noise, except for `flow`, whose s is the share of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "sample", "flow", "scaled_flow"]
"""scaled_flow: as flow, with noisy latents divided by the share of the picture in them, so that their noise levels are
standard deviations (Cosmos-Predict2)."""


@dataclass(frozen=True)
class PredictionRule:
    """The arithmetic of one prediction type; every tensor broadcasts against s.

    noisy(latents, noise, s): what the model sees. target(latents, noise, s, c): what it was trained to answer.
    clean(answer, noisy, s, c): the latents that an answer stands for. error(s, c): an error of the clean latents times
    this is the error of the answer.
    """

    noisy: Callable[[Tensor, Tensor, Tensor], Tensor]
    target: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    clean: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    error: Callable[[Tensor, float], Tensor]


def _exploding(latents: Tensor, noise: Tensor, s: Tensor) -> Tensor:
    return latents + s * noise


def _hypotenuse(s: Tensor, c: float) -> Tensor:
    return (s**2 + c**2).sqrt()


RULES: Mapping[Prediction, PredictionRule] = {
    # Ho et al. 2020, arXiv 2006.11239
    "epsilon": PredictionRule(
        noisy=_exploding,
        target=lambda latents, noise, s, c: noise,
        clean=lambda answer, noisy, s, c: noisy - s * answer,
        error=lambda s, c: 1 / s,
    ),
    # Salimans & Ho 2022, arXiv 2202.00512
    "v_prediction": PredictionRule(
        noisy=_exploding,
        target=lambda latents, noise, s, c: (c * noise - s * latents / c) / _hypotenuse(s, c),
        clean=lambda answer, noisy, s, c: c**2 * noisy / (s**2 + c**2) - s * c * answer / _hypotenuse(s, c),
        error=lambda s, c: _hypotenuse(s, c) / (s * c),
    ),
    "sample": PredictionRule(
        noisy=_exploding,
        target=lambda latents, noise, s, c: latents,
        clean=lambda answer, noisy, s, c: answer,
        error=lambda s, c: s.new_ones(s.shape),
    ),
    # Lipman et al. 2022, arXiv 2210.02747
    "flow": PredictionRule(
        noisy=lambda latents, noise, s: (1 - s) * latents + s * noise,
        target=lambda latents, noise, s, c: noise - latents,
        clean=lambda answer, noisy, s, c: noisy - s * answer,
        error=lambda s, c: 1 / s,
    ),
    "scaled_flow": PredictionRule(
        noisy=_exploding,
        target=lambda latents, noise, s, c: noise - latents,
        clean=lambda answer, noisy, s, c: (noisy - s * answer) / (1 + s),
        error=lambda s, c: (1 + s) / s,
    ),
}
