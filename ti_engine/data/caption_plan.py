"""Which caption belongs to which picture: the one place for the node and the command line."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from .caption_slots import FILEWORDS, file_words
from .picture_files import picture_suffixes

_IN_ORDER, _BY_NAME, _BESIDE = "in the order of the pictures", "by name", "in a file beside the picture"
_DRAWN = "drawn"  # by every picture from all lines


@dataclass(frozen=True)
class CaptionPlan:
    """own: a caption or None for each picture, or empty where no picture has one. templates: what the others draw from;
    empty for the contexts of `what`. summary: a sentence that says how many pictures have what. warnings: what is not
    used."""

    own: Sequence[str | None]
    templates: tuple[str, ...]
    summary: str
    warnings: list[str] = field(default_factory=list)

    def describe(self, names: Sequence[str], most: int | None = None) -> list[str]:
        """The summary and a line for each picture with its caption, at most `most` of them."""
        pairs = [f"  {name}: {text or '(drawn)'}" for name, text in zip(names, self.own, strict=False)]
        left = len(pairs[most:]) if most is not None else 0
        return [self.summary, *pairs[:most], *([f"  ... and {left} more"] if left else [])]


def plan_captions(
    lines: Sequence[str],
    names: Sequence[str],
    beside: Sequence[str | None] = (),
    *,
    what: str,
    caption_lines: str,
    templates: Sequence[str],
    class_noun: str = "",
) -> CaptionPlan:
    """Captions for the pictures called `names`.

    lines: captions from one text, used as `caption_lines` says: in the order of the pictures, each beginning with
    "NAME: " or NAME and a tab, or for all pictures to draw from. Empty lines at the end do not count; one between
    captions leaves its picture without. beside: texts from files beside the pictures, which serve where there are no
    lines, and for [filewords]. what, caption_lines, templates, class_noun: as in `TrainConfig`. Raises ValueError for
    lines that fit nothing, and for a class noun that no caption would hold.
    """
    if not names:
        return CaptionPlan([], tuple(templates), "There is no picture.")
    own, drawn, how = _assign(lines, names, what, caption_lines)
    templates = (*templates, *drawn)
    wants_words = any(FILEWORDS in text for text in (*templates, *filter(None, own)))
    warnings = []
    if any(beside) and how is not None and not wants_words:
        warnings.append("The caption files beside the pictures are not used, because captions are given otherwise.")
    texts = beside or [None] * len(names)
    if any(FILEWORDS in text for text in templates):
        own = [text or _words(name, other) for text, name, other in zip(own or texts, names, texts, strict=True)]
        return CaptionPlan(own, templates, _words_summary(sum(map(bool, texts)), len(names)), warnings)
    if how is None:
        own, texts, how = list(beside), [None] * len(names), _BESIDE
    own = [
        text.replace(FILEWORDS, _words(name, other)) if text and FILEWORDS in text else text
        for text, name, other in zip(own, names, texts, strict=False)
    ]
    if not any(own):
        own = []
    source = f"the {len(templates)} captions for all" if templates else f"the contexts of what = {what}"
    summary = _summary(own, len(names), how, source)
    if class_noun and own:
        warnings.append(_without_noun(sum(map(bool, own)), len(names), class_noun))
    if what == "custom" and caption_lines == "auto" and how == _IN_ORDER:
        summary += " For all pictures to draw from all lines, set caption_lines to drawn."
    return CaptionPlan(own, templates, summary, warnings)


def _assign(
    lines: Sequence[str], names: Sequence[str], what: str, caption_lines: str
) -> tuple[list[str | None], tuple[str, ...], str | None]:
    """Captions of pictures, captions for all, and how they were given (None: not at all)."""
    texts = list(lines)
    while texts and not texts[-1].strip():
        texts.pop()
    if not texts:
        return [], (), None
    named = [_named(line, names) for line in texts]
    if caption_lines == "drawn":
        if what != "custom":
            raise ValueError(f"caption_lines = drawn goes with what = custom, and what is {what}; change one of them.")
        if line := next((line for line, name in zip(texts, named, strict=True) if name is not None), None):
            raise ValueError(f"caption_lines = drawn, and the line {line!r} names its picture; change one of them.")
    if any(named):
        return _by_name(texts, named, names), (), _BY_NAME
    if line := next((line for line in texts if _names_a_file(line)), None):
        raise ValueError(
            f"The caption {line!r} begins with the name of a picture that is not there; there are {_some(names)}."
        )
    if caption_lines == "drawn" or (what == "custom" and caption_lines == "auto" and len(texts) != len(names)):
        return [], tuple(filter(None, texts)), _DRAWN
    if not len(texts) <= len(names) <= len(lines):  # empty lines at the end count where they make up the number
        raise ValueError(
            f"There are {len(texts)} captions for {len(names)} pictures. Write a line for each picture in their order "
            f"({_some(names)}), or begin every line with its picture's name, such as {names[0]}: my caption. "
            "For lines that all pictures draw from, set what to custom and caption_lines to drawn."
        )
    padded = texts + [""] * (len(names) - len(texts))
    return [text or None for text in padded], (), _IN_ORDER


def _named(line: str, names: Sequence[str]) -> tuple[int, str] | None:
    """The picture whose name a line begins with, and the caption behind it."""
    line = unicodedata.normalize("NFC", line)
    for number in sorted(range(len(names)), key=lambda n: -len(names[n])):
        name = unicodedata.normalize("NFC", names[number])
        rest = line.removeprefix(name).lstrip(" ")
        if line.startswith(name) and (not rest or rest[0] in ":\t"):
            return number, rest[1:].strip()
    return None


def _by_name(lines: Sequence[str], named: Sequence[tuple[int, str] | None], names: Sequence[str]) -> list[str | None]:
    own: list[str | None] = [None] * len(names)
    seen = set()
    for line, found in zip(lines, named, strict=True):
        if found is None:
            if not line.strip():
                continue
            raise ValueError(
                f"The caption {line!r} does not begin with the name of a picture, as others do; there are "
                f"{_some(names)}. Name the picture on every line or on none."
            )
        number, caption = found
        if number in seen:
            raise ValueError(f"Two captions are for {names[number]}; a picture has one, so leave one out.")
        seen.add(number)
        own[number] = caption or None
    return own


def _names_a_file(line: str) -> bool:
    start = re.match(r"([^:\t]*?\.\w+) *[:\t]", line)
    return start is not None and "." + start[1].rpartition(".")[2].lower() in picture_suffixes()


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _words(name: str, caption: str | None) -> str:
    """What [filewords] stands for. ValueError for a picture without."""
    words = caption or file_words(name)
    if not words:
        raise ValueError(
            f"{FILEWORDS} stands for a picture's own caption or the words of its file name, and {name} has neither; "
            "give it a caption, or leave out the slot."
        )
    return words


def _without_noun(captions: int, total: int, class_noun: str) -> str:
    """The warning that a class noun stands only in the captions of the paper. ValueError where none of them is used."""
    if captions == total:
        raise ValueError(
            f"class_noun is {class_noun!r}, but every picture has a caption of its own, in which it does not stand; "
            "write the noun into these captions, or leave class_noun empty."
        )
    return f"{captions} of {total} pictures have captions of their own; class_noun {class_noun!r} is not put into them."


def _words_summary(captions: int, total: int) -> str:
    rest = ", and for the file name of the others" if captions < total else ""
    return f"{FILEWORDS} stands for the caption of {captions} of {total} pictures{rest}."


def _summary(own: Sequence[str | None], total: int, how: str, source: str) -> str:
    if how == _DRAWN:
        return f"Every picture draws from {source}."
    if not own:
        return f"No picture has a caption of its own; all draw from {source}."
    count = sum(map(bool, own))
    rest = f"; the others draw from {source}" if count < total else ""
    return f"{count} of {total} pictures have a caption of their own, {how}{rest}."
