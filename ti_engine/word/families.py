"""The families of models, told apart by their text encoders: a word of one is no word of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .embedding import TokenEmbedding


@dataclass(frozen=True)
class Family:
    """Models that share their text encoders.

    widths: encoder key -> length of its vectors, in the order of the model's own text encoders.
    architecture: ModelSpec's name for it (github.com/Stability-AI/ModelSpec); None where there is none.
    """

    title: str
    widths: Mapping[str, int]
    architecture: str | None = None


# SD2 has two halves (512 and 768-v) with one text encoder, in which a word cannot be told apart; the first stands here.
FAMILIES: Mapping[str, Family] = {
    "sd1": Family("SD1", {"clip_l": 768}, "stable-diffusion-v1"),
    "sd2": Family("SD2", {"clip_h": 1024}, "stable-diffusion-v2-512"),
    "sdxl": Family("SDXL", {"clip_l": 768, "clip_g": 1280}, "stable-diffusion-xl-v1-base"),
    "sd3": Family("SD3", {"clip_l": 768, "clip_g": 1280, "t5xxl": 4096}),
    "flux": Family("Flux.1", {"clip_l": 768, "t5xxl": 4096}),
    "flux2": Family("Flux.2", {"mistral3_24b": 5120}),
    "t5": Family("models with T5 XXL alone (PixArt, Chroma)", {"t5xxl": 4096}),
    "cascade": Family("Stable Cascade or SDXL's refiner", {"clip_g": 1280}),
    "hunyuan-video": Family("HunyuanVideo", {"clip_l": 768, "llama": 4096}),
    "hidream": Family("HiDream", {"clip_l": 768, "clip_g": 1280, "t5xxl": 4096, "llama": 4096}),
    "ldm": Family("the first latent diffusion model", {"bert": 1280}),
    "demo": Family("the demo model", {"clip_l": 128}),
}


def family_of(embedding: TokenEmbedding) -> str | None:
    """The name in FAMILIES of the family that has exactly these text encoders; None if there is none."""
    had = _widths(embedding)
    return next((name for name, family in FAMILIES.items() if family.widths == had), None)


def check_family(embedding: TokenEmbedding, family: str) -> None:
    """Raises ValueError unless the widths of `embedding` are those of `family`, a name in FAMILIES.

    Encoder keys may differ: files do not always say which encoder they mean, and 4096 is the width of T5 and of Llama.
    """
    had, wanted = _widths(embedding), FAMILIES[family].widths
    if sorted(had.values()) != sorted(wanted.values()):
        title = FAMILIES[family].title
        raise ValueError(
            f"{embedding.placeholder} holds {describe_widths(had)}; {title} takes {describe_widths(wanted)}. "
            "It cannot be converted faithfully, because padding or cutting a vector changes what it means; "
            f"learn the word again on {title}."
        )


def family_title(embedding: TokenEmbedding) -> str:
    """Its family for a sentence: "SD1", or the encoders and widths that belong to none."""
    name = family_of(embedding)
    return describe_widths(_widths(embedding)) if name is None else FAMILIES[name].title


def describe_widths(widths: Mapping[str, int]) -> str:
    """Encoders and widths for a sentence: "clip_l of width 768 and clip_g of width 1280"."""
    return and_list([f"{key} of width {width}" for key, width in widths.items()])


def and_list(parts: Sequence[str]) -> str:
    """Parts of a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _widths(embedding: TokenEmbedding) -> dict[str, int]:
    return {key: rows.shape[1] for key, rows in embedding.vectors.items()}
