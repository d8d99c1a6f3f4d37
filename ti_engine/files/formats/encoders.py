"""Which text encoder vectors in a file belong to: by their key where it says it, else by the model, else by width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...word.families import FAMILIES
from ..refused import Refused
from .metadata import IMPLEMENTATION, IMPLEMENTATION_KEY

ENCODER_KEYS = ("clip_l", "clip_g", "clip_h", "t5xxl", "llama")  # in the order of a model's own encoders
_CERTAIN = ("clip_l", "clip_g", "clip_h", "t5xxl")  # nobody calls a word so, whatever the width
# All others could also be words (a llama), so they mean an encoder only with that encoder's width. ComfyUI's names.
_WIDTHS = {
    "clip_l": (768,),
    "clip_g": (1280,),
    "clip_h": (1024,),
    "bert": (1280,),
    "t5xxl": (4096, 1024),
    "umt5xxl": (4096,),
    "llama": (4096,),
    "mistral3_24b": (5120, 3072),  # ComfyUI gives Ernie Image's encoder this name too
    "ministral3_3b": (3072,),
    "gemma2_2b": (2304,),
    "gemma3_4b": (2560,),
    "gemma3_12b": (3840,),
    "qwen25_3b": (2048,),
    "qwen25_7b": (3584,),
    "qwen3_06b": (1024,),
    "qwen3_2b": (2048,),
    "qwen3_4b": (2560,),
    "qwen3_8b": (4096,),
    "qwen3vl_4b": (2560,),
    "qwen3vl_8b": (4096,),
    "t5base": (768,),
    "umt5base": (768,),
    "pile_t5xl": (2048,),
    "mt5xl": (2048,),
    "byt5_small": (1472,),
    "jina_clip_2": (1024,),
    "chinese_roberta": (1024,),
}
_OTHER_NAMES = {
    "t5": ("t5xxl",),
    "t5_xxl": ("t5xxl",),
    "mistral": ("mistral3_24b",),
    "gemma": ("gemma2_2b", "gemma3_4b", "gemma3_12b"),
    "qwen": ("qwen25_7b", "qwen25_3b", "qwen3_4b", "qwen3_8b"),
}
_READINGS = {
    128: ("clip_l", "clip_l (the demo model's)"),
    768: ("clip_l", "clip_l (SD1); the first encoders of SDXL, SD3 and Flux.1 have that width too"),
    1024: ("clip_h", "clip_h (SD2); small T5 encoders have that width too"),
    1280: ("clip_g", "clip_g (half of an SDXL word); Stable Cascade and the first latent diffusion have it too"),
    4096: ("t5xxl", "t5xxl (SD3, Flux.1, PixArt); Llama (HunyuanVideo, HiDream) has that width too"),
    5120: ("mistral3_24b", "mistral3_24b (Flux.2); other language models have that width too"),
}


def encoder_of_key(key: str, width: int) -> str | None:
    """The encoder, in ComfyUI's spelling, that a file means by `key` for vectors of `width`; None if it means none.

    t5 is t5xxl, gemma goes by width, and clip_l of width 1024 is how OneTrainer and others call SD2's clip_h.
    """
    if (key, width) == ("clip_l", 1024):
        return "clip_h"
    normalised = key.lower().replace("-", "_")
    names = _OTHER_NAMES.get(normalised, (normalised,))
    meant = next((name for name in names if width in _WIDTHS.get(name, ())), None)
    return meant or (key if key in _CERTAIN else None)


def may_be_guessed(key: str, width: int) -> bool:
    """Whether vectors of `width` may be under `key` because of their width alone, and be another encoder's."""
    return key not in _WIDTHS or _READINGS.get(width, ("", ""))[0] == key


def known_width(width: int) -> bool:
    """Whether a text encoder with vectors of `width` is known here."""
    return any(width in widths for widths in _WIDTHS.values())


def assign_encoders(
    widths: Mapping[str, int], encoder_for_width: Mapping[int, str] | None, metadata: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """The encoder of each of a word's tensors (key in the file -> encoder key), and a warning for each that is guessed.

    widths: key in the file -> length of a vector. metadata: what the file says.
    encoder_for_width: the text encoders of the model that the word is for, width -> key; all must have vectors. Without
    it the most common reading counts, and vectors of a width that has none keep the file's key.
    Raises Refused if the word is not for this model, or for two tensors with one encoder.
    """
    stated = {key: encoder_of_key(key, width) for key, width in widths.items()}
    if encoder_for_width is not None:
        assigned = {key: stated[key] or encoder_for_width.get(width) for key, width in widths.items()}
        if {(assigned[key], width) for key, width in widths.items()} != {
            (key, w) for w, key in encoder_for_width.items()
        }:
            raise Refused(_mismatch([(assigned[key], w) for key, w in widths.items()], encoder_for_width))
    encoders, warnings = {}, []
    for key, width in widths.items():
        guess, reading = _READINGS.get(width, (key or "unknown", None))
        encoders[key] = stated[key] or (encoder_for_width or {}).get(width) or guess
        if encoder_for_width is not None:
            continue
        if stated[key] is not None:
            warnings += _doubts(key, encoders[key], width)
        elif not _clear(width, widths, metadata):
            belongs = f"is read as {reading}" if reading else "belongs to no text encoder known without the model"
            warnings.append(f"Width {width} {belongs}.")
    twice = [encoder for encoder in encoders.values() if list(encoders.values()).count(encoder) > 1]
    if twice:
        raise Refused(f"holds {len(twice)} sets of vectors for {twice[0]}, and a word has one")
    return encoders, warnings


def _doubts(key: str, encoder: str, width: int) -> list[str]:
    if (key, encoder) == ("clip_l", "clip_h"):
        return [f"The file says {key}, but width {width} is that of clip_h (SD2), which is read."]
    if known_width(width) and width not in _WIDTHS.get(encoder, (width,)):
        return [f"The file says {key}, but width {width} is another encoder's; the file is believed."]
    return []


def _clear(width: int, widths: Mapping[str, int], metadata: Mapping[str, str]) -> bool:
    """Whether the most common reading is the only one: by the file's own word, or because only SDXL has these two."""
    by_family = metadata.get("modelspec.architecture", "").startswith(("stable-diffusion", "flux"))
    is_own = metadata.get(IMPLEMENTATION_KEY) == IMPLEMENTATION  # and it leaves unnamed only what is read so
    return ((by_family or is_own) and width in _READINGS) or (
        width in (768, 1280) and {768, 1280} <= set(widths.values())
    )


def _mismatch(had: Sequence[tuple[str | None, int]], encoder_for_width: Mapping[int, str]) -> str:
    had = sorted(had, key=lambda encoder: encoder[1])
    read = {encoder or _READINGS.get(width, ("", ""))[0]: width for encoder, width in had}
    title = next((family.title for family in FAMILIES.values() if family.widths == read), None)
    wanted = [(key, width) for width, key in encoder_for_width.items()]
    family = f", and the word is for {title}" if title else ""
    return f"holds vectors of {_describe(had)}; this model takes {_describe(wanted)}{family}"


def _describe(widths: Sequence[tuple[str | None, int]]) -> str:
    return " and ".join(f"width {width} ({key})" if key else f"width {width}" for key, width in widths)
