"""Where the placeholder stands in a text."""

from __future__ import annotations

import re


def split_at_placeholder(text: str, placeholder: str) -> list[str]:
    """The parts of `text` before, between and after the placeholders: one more than there are placeholders.

    Only whole occurrences count: S* stands in "S*, a cat" and "(S*)'s hat" but neither in "US*" nor in "S*2" or "S**".
    """
    first, last = re.escape(placeholder[0]), re.escape(placeholder[-1])
    return re.split(rf"(?<![\w{first}]){re.escape(placeholder)}(?![\w{last}])", text)
