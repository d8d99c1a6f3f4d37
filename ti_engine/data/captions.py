"""Training captions: the neutral contexts of the paper, and where the placeholder goes.

A caption is drawn anew for every sample of every step; drawing it once an image is a bug that peers had.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from ..word.placeholder import places_of, where_else, with_placeholder

# Gal et al. 2022, appendix: neutral contexts from CLIP's ImageNet templates, so that only the word carries the picture.
OBJECT_TEMPLATES = (
    "a photo of a {}",
    "a rendering of a {}",
    "a cropped photo of the {}",
    "the photo of a {}",
    "a photo of a clean {}",
    "a photo of a dirty {}",
    "a dark photo of the {}",
    "a photo of my {}",
    "a photo of the cool {}",
    "a close-up photo of a {}",
    "a bright photo of the {}",
    "a cropped photo of a {}",
    "a photo of the {}",
    "a good photo of the {}",
    "a photo of one {}",
    "a close-up photo of the {}",
    "a rendition of the {}",
    "a photo of the clean {}",
    "a rendition of a {}",
    "a photo of a nice {}",
    "a good photo of a {}",
    "a photo of the nice {}",
    "a photo of the small {}",
    "a photo of the weird {}",
    "a photo of the large {}",
    "a photo of a cool {}",
    "a photo of a small {}",
)

# Gal et al. 2022, contexts for styles.
STYLE_TEMPLATES = (
    "a painting in the style of {}",
    "a rendering in the style of {}",
    "a cropped painting in the style of {}",
    "the painting in the style of {}",
    "a clean painting in the style of {}",
    "a dirty painting in the style of {}",
    "a dark painting in the style of {}",
    "a picture in the style of {}",
    "a cool painting in the style of {}",
    "a close-up painting in the style of {}",
    "a bright painting in the style of {}",
    "a cropped painting in the style of {}",
    "a good painting in the style of {}",
    "a close-up painting in the style of {}",
    "a rendition in the style of {}",
    "a nice painting in the style of {}",
    "a small painting in the style of {}",
    "a weird painting in the style of {}",
    "a large painting in the style of {}",
)

SLOTS = ("{}", "[name]")  # where the word goes in a template, besides the placeholder itself


class CaptionSource:
    """Draws the caption of a picture: one of its own captions, or one of the templates shared by all.

    templates: at least one text with a slot ({} or [name]) or with the placeholder itself.
    own_captions: for each picture None or its caption; a picture with one always uses it.
    Raises ValueError for a text without the word, which would train nothing.
    """

    def __init__(self, placeholder: str, templates: Sequence[str], own_captions: Sequence[str | None] = ()) -> None:
        self._templates = [fill_slot(text, placeholder) for text in templates]
        self._own = [None if text is None else fill_slot(text, placeholder) for text in own_captions]
        if not self._templates and (not self._own or None in self._own):
            raise ValueError("what = custom needs captions: one for every picture, or templates for all; got neither.")

    def all(self) -> list[str]:
        """Every caption that can be drawn, each once."""
        own = [text for text in self._own if text is not None]
        templates_serve = not self._own or len(own) < len(self._own)
        return list(dict.fromkeys([*own, *(self._templates if templates_serve else ())]))

    def draw(self, picture: int, generator: torch.Generator) -> str:
        """A caption for picture number `picture`."""
        own = self._own[picture] if picture < len(self._own) else None
        if own is not None:
            return own
        return self._templates[int(torch.randint(len(self._templates), (1,), generator=generator))]


def templates_for(what: str, custom: Sequence[str] = ()) -> Sequence[str]:
    """The contexts that belong to a setting of `TrainConfig.what`."""
    return {"object": OBJECT_TEMPLATES, "style": STYLE_TEMPLATES, "custom": tuple(custom)}[what]


def fill_slot(template: str, placeholder: str) -> str:
    """`template` with the placeholder in its slots, where it is a word whatever stands beside it: "two {}s" is "two S*
    s". ValueError where the placeholder is no word of the result."""
    text, *rest = re.split("|".join(map(re.escape, SLOTS)), template)
    for part in rest:
        text = with_placeholder(text, placeholder, part)
    if len(places_of(text, placeholder)) < max(1, len(rest)):
        raise ValueError(
            f"The caption {template!r} does not contain {placeholder!r}, so it cannot teach the word. "
            f"Write {placeholder}, {{}} or [name] where the word belongs.{where_else(text, placeholder)}"
        )
    return text
