"""What a placeholder may be, and where it stands in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable

DEFAULT_PLACEHOLDER = "S*"
MAX_LENGTH = 64  # characters
_OF_PROMPTS = ',:()[]{}<>\\"|'  # characters that prompts use for other things


def check_placeholder(placeholder: str) -> None:
    """Raises ValueError for a text that no prompt can contain as a word: what is wrong, and what is allowed."""
    if not placeholder.strip():
        raise ValueError("placeholder is empty; give the word a name such as S*.")
    if len(placeholder) > MAX_LENGTH:
        raise ValueError(f"placeholder has {len(placeholder):,} characters, and {MAX_LENGTH} are allowed; shorten it.")
    bad = sorted(c for c in set(placeholder) if _is_bad(c))
    if bad or placeholder != placeholder.strip():
        shown = " ".join(map(repr, bad)) if bad else "a space at its ends"
        raise ValueError(
            f"placeholder {placeholder!r} must not contain {shown} because prompts use that for other things; "
            "use letters, digits, - _ and * only, such as S*."
        )


def usable_placeholder(name: str) -> str:
    """`name`, which a file gives its word, as near to it as prompts can contain; empty where nothing of it can stay.

    `<cat>`, as diffusers and others call words, stays as it is.
    """
    try:
        check_placeholder(name[1:-1] if name[:1] == "<" and name[-1:] == ">" else name)
    except ValueError:
        parts = "".join(" " if _is_bad(c) else c for c in name).split()
        return "-".join(parts)[:MAX_LENGTH].strip("-")
    return name


def split_at_placeholder(text: str, placeholder: str) -> list[str]:
    """The parts of `text` before, between and after the placeholders: one more than there are placeholders.

    Only whole occurrences count: S* stands in "S*, a cat" and "(S*)'s hat" but neither in "US*" nor in "S*2" or "S**".
    """
    first, last = re.escape(placeholder[0]), re.escape(placeholder[-1])
    return re.split(rf"(?<![\w{first}]){re.escape(placeholder)}(?![\w{last}])", text)


def split_at_placeholders(text: str, placeholders: Iterable[str]) -> list[tuple[str, bool]]:
    """`text` cut into (part, whether it is one of the placeholders), empty parts left out.

    The longest placeholder is looked for first, so that one that holds another is found as a whole.
    """
    parts = [(text, False)]
    for placeholder in sorted(placeholders, key=len, reverse=True):
        cut: list[tuple[str, bool]] = []
        for part, is_word in parts:
            pieces = [part] if is_word else split_at_placeholder(part, placeholder)
            for number, piece in enumerate(pieces):
                cut += [(placeholder, True)] if number else []
                cut.append((piece, is_word))
        parts = cut
    return [(part, is_word) for part, is_word in parts if part]


def _is_bad(character: str) -> bool:
    return character in _OF_PROMPTS or not character.isprintable()
