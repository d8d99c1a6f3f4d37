"""What texts in brackets stand for in captions and templates, those of other programs included."""

from __future__ import annotations

import re
from pathlib import PurePath

WORD_SLOTS = ("{}", "[name]", "[trigger]", "<embedding>")
"""Where the word goes, besides the placeholder itself: ours, and as A1111, ai-toolkit and OneTrainer write it."""

FILEWORDS = "[filewords]"
"""A1111: the picture's own caption, or the words of its file name."""

_SLOT = re.compile(r"\[\w+\]|\{[^{}]*\}|<[^<>\s]+>")
_NUMBERS_AT_START = re.compile(r"^[-_\d\s]+")  # of files in an order, as A1111 leaves them out


def check_slots(text: str, placeholder: str) -> None:
    """ValueError for a text in brackets that other programs replace and that would be trained as it stands."""
    rest = text.replace(placeholder, "")
    unknown = next((slot for slot in _SLOT.findall(rest) if slot not in (*WORD_SLOTS, FILEWORDS)), None)
    if unknown is not None:
        raise ValueError(
            f"The caption {text!r} holds {unknown}, which stands for nothing here: {', '.join(WORD_SLOTS)} stand for "
            f"the word and {FILEWORDS} for a picture's own caption or file name. Use one of them, or leave out the "
            "brackets."
        )


def file_words(name: str) -> str:
    """The words of a picture's file name: 003_red-vase.png says "red-vase". Empty without letters or ending."""
    path = PurePath(name)
    words = " ".join(_NUMBERS_AT_START.sub("", path.stem, count=1).replace("_", " ").split()) if path.suffix else ""
    return words if any(c.isalpha() for c in words) else ""


def literal_parentheses(text: str) -> str:
    r"""`text` with \( and \) as prompts write literal parentheses; in training all parentheses are literal."""
    return text.replace(r"\(", "(").replace(r"\)", ")")
