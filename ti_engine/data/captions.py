"""Training captions: the neutral contexts of the paper, and where the placeholder goes.

A caption is drawn anew for every sample of every step; drawing it once an image is a bug that peers had.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from ..word.placeholder import places_of, where_else, with_placeholder
from .caption_slots import FILEWORDS, WORD_SLOTS, check_slots, literal_parentheses

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


class CaptionSource:
    """Draws the caption of a picture: one of its own captions, or one of the templates shared by all.

    templates: at least one text with a slot (one of WORD_SLOTS) or with the placeholder itself.
    own_captions: for each picture None or its caption; a picture with one always uses it. Where a template holds
    [filewords] they stand there instead, and need no placeholder.
    Raises ValueError for a text without the word, which would train nothing, and for slots that mean nothing.
    """

    def __init__(self, placeholder: str, templates: Sequence[str], own_captions: Sequence[str | None] = ()) -> None:
        self._with_words: list[list[str]] = []  # for each picture, where templates hold [filewords]
        if any(FILEWORDS in text for text in templates):
            words = [text or FILEWORDS for text in own_captions] or [FILEWORDS]
            self._with_words = [[_fill(t.replace(FILEWORDS, w), placeholder) for t in templates] for w in words]
            own_captions = ()
        self._templates = self._with_words[0] if self._with_words else [_fill(text, placeholder) for text in templates]
        self._own = [None if text is None else _fill(text, placeholder) for text in own_captions]
        if not self._templates and (not self._own or None in self._own):
            raise ValueError(
                "what = custom learns from captions of your own: one for every picture, or lines for all of them to "
                f"draw from. {f'Picture {self._own.index(None) + 1} has none' if any(self._own) else 'There are none'}."
            )

    def all(self) -> list[str]:
        """Every caption that can be drawn, each once."""
        if self._with_words:
            return list(dict.fromkeys(text for texts in self._with_words for text in texts))
        own = [text for text in self._own if text is not None]
        templates_serve = not self._own or len(own) < len(self._own)
        return list(dict.fromkeys([*own, *(self._templates if templates_serve else ())]))

    def draw(self, picture: int, generator: torch.Generator) -> str:
        """A caption for picture number `picture`."""
        own = self._own[picture] if picture < len(self._own) else None
        if own is not None:
            return own
        templates = self._with_words[picture] if self._with_words else self._templates
        return templates[int(torch.randint(len(templates), (1,), generator=generator))]


def templates_for(what: str, custom: Sequence[str] = (), class_noun: str = "") -> Sequence[str]:
    """The contexts that belong to a setting of `TrainConfig.what`, with the class noun behind the word if there is
    one."""
    templates = {"object": OBJECT_TEMPLATES, "style": STYLE_TEMPLATES, "custom": tuple(custom)}[what]
    return [text.replace("{}", f"{{}} {class_noun}") for text in templates] if class_noun else templates


def _fill(text: str, placeholder: str) -> str:
    """A caption as it is trained; see `CaptionSource` for what is refused."""
    check_slots(text, placeholder)
    if FILEWORDS in text:
        raise ValueError(
            f"The caption {text!r} holds {FILEWORDS}, which stands for a picture's own caption or file name, and there "
            "is neither; give each picture a caption, or leave out the slot."
        )
    return literal_parentheses(fill_slot(text, placeholder))


def fill_slot(template: str, placeholder: str) -> str:
    """`template` with the placeholder in its slots, where it is a word whatever stands beside it: "two {}s" is "two S*
    s". ValueError where the placeholder is no word of the result."""
    text, *rest = re.split("|".join(map(re.escape, WORD_SLOTS)), template)
    for part in rest:
        text = with_placeholder(text, placeholder, part)
    if len(places_of(text, placeholder)) < max(1, len(rest)):
        raise ValueError(
            f"The caption {template!r} does not contain {placeholder!r}, so it cannot teach the word. "
            f"Write {placeholder}, {{}} or [name] where the word belongs.{where_else(text, placeholder)}"
        )
    return text
