"""TrainConfig: every setting of a training run with its unit, default and check. Nothing else holds defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .embedding import DEFAULT_PLACEHOLDER

# Root mean square of a coordinate of SD1's CLIP vocabulary. Learning rates are told for vectors of this scale.
REFERENCE_VOCABULARY_RMS = 0.014


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one run. Raises ValueError with the allowed range for a value outside of it."""

    steps: int = 300
    """Updates of the vectors at most, 1 to 1,000,000. With `early_stop` a run often ends sooner."""

    learning_rate: float = 0.01
    """Step size for a vocabulary of SD1's scale, above 0 to 10. It is multiplied by the scale of the model's own
    vocabulary (root mean square of a coordinate, over 0.014), so one value suits all text encoders."""

    batch_size: int = 8
    """Samples (picture, noise, noise level, caption) that one update averages over, 1 to 4096."""

    num_vectors: int = 1
    """Tokens that the word takes up, at least 1. More hold more detail and are harder to edit."""

    initial_words: str = ""
    """Where the vectors start: one or several words, spread over the vectors. Empty: random at the vocabulary's scale."""

    placeholder: str = DEFAULT_PLACEHOLDER
    """The word that stands for the concept in captions and prompts."""

    what: str = "object"
    """object, style: the paper's contexts for it. custom: only `templates` or the captions given with the pictures."""

    templates: tuple[str, ...] = ()
    """Captions of your own for what = custom; the word goes where the placeholder, {} or [name] stands."""

    seed: int = 0
    """Start of every random draw, 0 to 2**63 - 1. The same seed gives the same vectors on the same device."""

    resolution: int = 512
    """Side in pixels that pictures are cropped and scaled to; a multiple of 8 from 64 to 2048."""

    flip: bool = False
    """Also learn from mirrored pictures. Leave it off where left and right matter."""

    warmup_steps: int = 10
    """Updates over which the learning rate rises from 0."""

    schedule: str = "cosine"
    """cosine: the learning rate falls to 5 % of its value at the last step. constant: it stays."""

    gradient_accumulation_steps: int = 1
    """Parts that a batch is split into to save memory; the result stays the same. Divides `batch_size`."""

    gradient_clip: float = 0.0
    """Longest gradient of all vectors together, in the loss's own units. 0: no limit."""

    high_noise_bias: float = 1.0
    """0: all noise levels are trained equally often (as in the paper). 1: in proportion to the time step. What an
    object is gets decided at high noise."""

    evaluate_every: int = 10
    """Updates between looks at the fixed evaluation set, from which the best state is chosen. 0: never."""

    early_stop: bool = True
    """Stop when the loss on the fixed evaluation set no longer falls."""

    preview_every: int = 50
    """Updates between preview pictures, where the caller shows some. 0: none."""

    def __post_init__(self) -> None:
        self._check_range("steps", 1, 1_000_000)
        self._check_range("learning_rate", 0, 10, above=True)
        self._check_range("batch_size", 1, 4096)
        self._check_range("num_vectors", 1, 4096)
        self._check_range("seed", 0, 2**63 - 1)
        self._check_range("resolution", 64, 2048)
        self._check_range("warmup_steps", 0, 1_000_000)
        self._check_range("gradient_accumulation_steps", 1, self.batch_size)
        self._check_range("gradient_clip", 0, math.inf)
        self._check_range("high_noise_bias", 0, 4)
        self._check_range("evaluate_every", 0, 1_000_000)
        self._check_range("preview_every", 0, 1_000_000)
        if self.resolution % 8:
            raise ValueError(f"resolution must be a multiple of 8, got {self.resolution}.")
        if self.batch_size % self.gradient_accumulation_steps:
            raise ValueError(
                f"gradient_accumulation_steps ({self.gradient_accumulation_steps}) must divide "
                f"batch_size ({self.batch_size})."
            )
        self._check_choice("what", ("object", "style", "custom"))
        self._check_choice("schedule", ("cosine", "constant"))
        object.__setattr__(self, "templates", tuple(self.templates))
        _check_placeholder(self.placeholder)

    def _check_range(self, name: str, low: float, high: float, above: bool = False) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high or (above and value == low):
            raise ValueError(f"{name} must be {'above' if above else 'from'} {low} {'and at most' if above else 'to'} {high}, got {value!r}.")

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}.")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> TrainConfig:
        """The settings called `name` (a key of PRESETS) with `changes`; an unknown name or setting is a ValueError."""
        if name not in PRESETS:
            raise ValueError(f"There is no preset {name!r}; there are {', '.join(PRESETS)}.")
        return cls.from_dict({**PRESETS[name], **changes})

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> TrainConfig:
        """Settings by name; a name that does not exist is a ValueError and never ignored."""
        known = [f.name for f in fields(cls)]
        unknown = [name for name in settings if name not in known]
        if unknown:
            raise ValueError(f"Unknown setting {', '.join(map(repr, unknown))}; there are {', '.join(known)}.")
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """All settings, ready for JSON."""
        return {**asdict(self), "templates": list(self.templates)}


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # Gal et al. 2022: 5,000 updates of 8 samples, base rate 0.005 times the batch, every noise level, mirrored pictures.
    "paper": dict(
        steps=5000,
        learning_rate=0.04,
        batch_size=8,
        schedule="constant",
        warmup_steps=0,
        high_noise_bias=0.0,
        early_stop=False,
        flip=True,
        preview_every=500,
        evaluate_every=100,
    ),
}


def _check_placeholder(placeholder: str) -> None:
    if not placeholder.strip():
        raise ValueError("placeholder is empty; give the word a name such as S*.")
    bad = sorted(set(placeholder) & set(",:()[]{}<>\\\"\n\t|"))
    if bad or placeholder != placeholder.strip():
        shown = " ".join(bad) if bad else "a space at its ends"
        raise ValueError(
            f"placeholder {placeholder!r} contains {shown}, which prompts use for other things; "
            "use letters, digits, - _ and * only, such as S*."
        )
