"""TrainConfig: every setting of a training run with its unit, default and check. Nothing else holds defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from ..method.learning_rate import SCHEDULES
from ..word.placeholder import DEFAULT_PLACEHOLDER, check_class_noun, check_placeholder

# Root mean square of a coordinate of SD1's CLIP vocabulary, whose vectors of 768 are usually 0.39 long. Learning rates
# are given for vectors of this scale.
REFERENCE_VOCABULARY_RMS = 0.014


T = TypeVar("T", bool, int, float, str, "tuple[str, ...]")


def _setting(
    default: T,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    open_low: bool = False,
) -> T:
    """A field with its description and limits; front ends read them by `setting_limits` instead of repeating them.

    low, high: smallest and largest value; with `open_low`, `low` itself is not allowed.
    """
    metadata = {"help": help, "min": low, "max": high, "choices": choices, "open_low": open_low}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one run. Raises ValueError with the allowed range for a value outside of it."""

    steps: int = _setting(
        150, "Largest number of updates. With early_stop a run of more than 250 steps may end earlier.", 1, 1_000_000
    )
    learning_rate: float = _setting(
        0.01,
        "Step size for a vocabulary of SD1's scale. It is multiplied by the scale of the model's own vocabulary (root "
        "mean square of a coordinate of its median vector, divided by 0.014), so one value suits all text encoders.",
        0,
        10,
        open_low=True,
    )
    batch_size: int = _setting(
        8, "Samples (picture, noise, noise level, caption) that one update averages over.", 1, 4096
    )
    num_vectors: int = _setting(
        1, "Tokens that the word takes up. More hold more detail and are harder to place in new scenes.", 1, 4096
    )
    initial_words: str = _setting(
        "",
        "Words that the vectors start from, one or several, spread over the vectors. Empty: random vectors of the "
        "vocabulary's scale.",
    )
    placeholder: str = _setting(DEFAULT_PLACEHOLDER, "The word that stands for the concept in captions and prompts.")
    what: str = _setting(
        "object",
        "Captions to train with. object, style: those of the paper. custom: only your own.",
        choices=("object", "style", "custom"),
    )
    templates: tuple[str, ...] = _setting(
        (), "Captions of your own for what = custom; the word goes where the placeholder, {} or [name] stands."
    )
    caption_lines: str = _setting(
        "auto",
        "How the lines of captions are used. paired: line 1 is the caption of picture 1, and so on, or each line names "
        "its picture. drawn: every picture draws from all lines (what = custom). auto: drawn for what = custom with "
        "more or fewer lines than pictures, otherwise paired.",
        choices=("auto", "paired", "drawn"),
    )
    seed: int = _setting(
        0, "Seed of all random draws. The same seed gives the same vectors on the same device.", 0, 2**63 - 1
    )
    resolution: int = _setting(
        0,
        "Side in pixels of the square that pictures are cropped and scaled to: a multiple of 8, at least 64. 0: the "
        "resolution that the model was trained at.",
        0,
        2048,
    )
    train_encoders: tuple[str, ...] = _setting(
        (),
        "Text encoders that learn the word, such as clip_l. The others read the initial words in its place. Empty: all "
        "of the model's. Fewer encoders make a step cheaper and the word less expressive.",
    )
    flip: bool = _setting(False, "Also train on mirrored pictures. Leave it off if left and right matter.")
    norm: str = _setting(
        "free",
        "free: the vectors may grow, and usually end several times as long as a word. vocabulary: after every update "
        "each has the length of a usual word of the model's vocabulary, so only its direction is learned. Kim et al. "
        "2025 found that prompts are followed better, with less likeness on SDXL. A step of the same rate turns the "
        "word farther.",
        choices=("free", "vocabulary"),
    )
    warmup_steps: int = _setting(10, "Updates over which the learning rate rises from 0.", 0, 1_000_000)
    schedule: str = _setting(
        "cosine",
        "cosine: the learning rate falls to 5 % of its value at the last step. constant: it stays.",
        choices=tuple(SCHEDULES),
    )
    gradient_accumulation_steps: int = _setting(
        1,
        "Parts that a batch is computed in to save memory. The result stays the same. Must divide batch_size.",
        1,
        4096,
    )
    gradient_checkpointing: str = _setting(
        "auto",
        "Compute the denoiser's blocks (in ComfyUI also the text encoders' layers) a second time in the backward "
        "instead of keeping their activations: less memory, about a third more time, the same result. auto: only if a "
        "step does not fit into memory otherwise.",
        choices=("auto", "on", "off"),
    )
    gradient_clip: float = _setting(
        0.0,
        "Largest norm of the gradient of all vectors together, measured for a vocabulary of SD1's scale. 0: no limit.",
        0,
        math.inf,
    )
    high_noise_bias: float = _setting(
        1.0,
        "0: all noise levels are trained equally often, as in the paper. 1: in proportion to the time step, because "
        "high noise decides what an object is.",
        0,
        4,
    )
    evaluate_every: int = _setting(
        50,
        "Updates between two evaluations on the fixed evaluation set, for the loss chart. They do not change the "
        "vectors. 0: only before and after training.",
        0,
        1_000_000,
    )
    early_stop: bool = _setting(
        True,
        "If the loss on the fixed evaluation set did not fall over the last 100 updates, lower the learning rate to "
        "5 % over a quarter more updates, then end the run.",
    )
    preview_every: int = _setting(
        50, "Updates between two preview pictures. 0: one preview, of the result.", 0, 1_000_000
    )
    if_exists: str = _setting(
        "reuse",
        "What happens where the same run is on disk already. reuse: a finished one is returned at once, and one that "
        "is not finished goes on. retrain: a new one is trained beside it.",
        choices=("reuse", "retrain"),
    )
    runs_gb: float = _setting(
        2.0,
        "Gigabytes that all runs on disk may take up. Above that the oldest finished ones are deleted, but no "
        "unfinished one.",
        0,
        math.inf,
    )

    class_noun: str = _setting(
        "",
        "A noun that the paper's captions for objects put behind the word: with heart they read \"a photo of a S* "
        'heart". Write S* heart in prompts, too. The noun says what kind of thing it is and the word only how it '
        "looks, so two words in one picture are told apart better. Without its noun such a word means less.",
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            self._check(setting.name, setting.default, setting.metadata)
        if self.resolution % 8 or 0 < self.resolution < 64:
            raise ValueError(f"resolution must be 0 or a multiple of 8 from 64 to 2048, got {self.resolution}.")
        if self.batch_size % self.gradient_accumulation_steps:
            raise ValueError(
                f"gradient_accumulation_steps ({self.gradient_accumulation_steps}) must divide "
                f"batch_size ({self.batch_size})."
            )
        for name in ("templates", "train_encoders"):
            texts = getattr(self, name)
            if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
                raise ValueError(f"{name} must be a list of texts, got {texts!r}.")
            object.__setattr__(self, name, tuple(texts))
        if self.templates and self.what != "custom":
            raise ValueError(f"templates are used with what = custom only; what is {self.what}, change one of them.")
        check_placeholder(self.placeholder)
        object.__setattr__(self, "class_noun", " ".join(self.class_noun.split()))
        if self.class_noun and self.what != "object":
            raise ValueError(
                f"class_noun goes with what = object only; what is {self.what}, so write the noun {self.class_noun!r} "
                "into your own captions, or change one of the two."
            )
        check_class_noun(self.class_noun, self.placeholder)

    def in_prompt(self) -> str:
        """What to write in prompts: the placeholder, and behind it the class noun if there is one."""
        return f"{self.placeholder} {self.class_noun}".rstrip()

    def _check(self, name: str, default: Any, limits: Mapping[str, Any]) -> None:
        value = getattr(self, name)
        if isinstance(default, bool) and not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, got {value!r}.")
        if isinstance(default, str) and not isinstance(value, str):
            raise ValueError(f"{name} must be a text, got {value!r}.")
        if limits["choices"] and value not in limits["choices"]:
            raise ValueError(f"{name} must be one of {', '.join(limits['choices'])}; got {value!r}.")
        low, high = limits["min"], limits["max"]
        if low is None:
            return
        kinds = (int, float) if isinstance(default, float) else int
        number = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not low <= value <= high or (limits["open_low"] and value == low):
            kind = "" if number else "a number " if isinstance(default, float) else "a whole number "
            if limits["open_low"]:
                allowed = f"above {low} and at most {high}"
            else:
                allowed = f"at least {low}" if high == math.inf else f"from {low} to {high}"
            raise ValueError(f"{name} must be {kind}{allowed}, got {value!r}.")

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
        return {**asdict(self), "templates": list(self.templates), "train_encoders": list(self.train_encoders)}


def setting_limits(name: str) -> dict[str, Any]:
    """`help`, `min`, `max`, `choices`, `open_low` of a setting, for node schemas, command line flags and documents."""
    return dict(TrainConfig.__dataclass_fields__[name].metadata)


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # Words of a usual length, learned with few samples: docs/quality.md compares it on the demo model alone.
    "fast": dict(
        steps=40,
        learning_rate=0.015,
        batch_size=4,
        norm="vocabulary",
        warmup_steps=2,
        evaluate_every=20,
        preview_every=20,
    ),
    # Gal et al. 2022: 5,000 updates of 8 samples, base rate 0.005 times the batch, every noise level, mirror images.
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
    ),
}
