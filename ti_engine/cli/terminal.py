"""Text for a terminal: what a command says beside its result, and text out of files that is safe to show."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

_LONGEST = 200  # characters: a thumbnail or a whole workflow is not for reading


def say(sentence: str) -> None:
    """On stderr, so that the result alone is on stdout."""
    print(sentence, file=sys.stderr)


def warn(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        say(f"warning: {sentence}")


def say_changes() -> Callable[[str], None]:
    """Says a sentence that comes again and again only once."""
    last = ""

    def say_new(sentence: str) -> None:
        nonlocal last
        if sentence != last:
            say(sentence)
        last = sentence

    return say_new


def printable(text: str, longest: int = _LONGEST) -> str:
    """Text from a file on one line, cut, and without characters that would control the terminal."""
    text = text if len(text) <= longest else text[:longest] + " ..."
    return text if text.isprintable() else ascii(text)
