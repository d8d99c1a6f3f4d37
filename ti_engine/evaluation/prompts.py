"""Prompts that ask for something beside the word, in the paper's groups, and the text that a score compares with."""

from __future__ import annotations

import re
from types import MappingProxyType

from ..data.captions import fill_slot
from ..word.placeholder import places_of

PHOTO = "a photo of {}"
"""Its pictures are compared with the training pictures. No other prompt's are: a style or a property that the prompt
asks for is meant to change them."""
PROMPTS = MappingProxyType(
    {
        "background": (
            "a photo of {} on the beach",
            "a photo of {} on the moon",
            "a photo of {} in a snowy forest",
            "a photo of {} on a city street at night",
        ),
        "style": (
            "an oil painting of {}",
            "a pencil sketch of {}",
            "a watercolor painting of {}",
            "a pixel art picture of {}",
        ),
        "property": (
            "a photo of {} made of wood",
            "a photo of {} made of glass",
            "a photo of {} in bright red",
            "a photo of {} covered in gold",
        ),
        "composition": (
            "Elmo holding {}",
            "a crowd of people around {}",
            "a dog sleeping beside {}",
            "a cup of coffee and {} on a table",
        ),
        "relation": (
            "{} on top of a wooden box",
            "{} to the left of a blue ball",
            "{} under a red umbrella",
            "a small bird above {}",
        ),
    }
)
"""Group -> prompts; {} is the word. The kinds are those of Gal et al. 2022, section 5, the sentences our own."""


def prompt_for(prompt: str, placeholder: str, class_noun: str = "") -> str:
    """`prompt` with the word where {} stands, and behind it the noun that it was learned with."""
    return fill_slot(prompt.replace("{}", f"{{}} {class_noun}".rstrip()), placeholder)


def text_without_word(prompt: str, placeholder: str = "{}") -> str:
    """What the pictures of `prompt` are compared with: the prompt without the word, as the paper's code leaves it out.

    "a photo of S* on the moon" becomes "a photo of on the moon". So the text asks only for what the word does not say.
    """
    if placeholder == "{}":
        return _tidy(prompt.replace("{}", " "))
    for begin, end in reversed(places_of(prompt, placeholder)):
        prompt = f"{prompt[:begin]} {prompt[end:]}"
    return _tidy(prompt)


def _tidy(text: str) -> str:
    return re.sub(r"\s+([,.;!?])", r"\1", " ".join(text.split())).strip(" ,;")
