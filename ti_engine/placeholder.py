"""Where the placeholder stands in a text."""

from __future__ import annotations

import re


def split_at_placeholder(text: str, placeholder: str) -> list[str]:
    """The parts of `text` before, between and after the placeholders: one more than there are placeholders.

    Only whole occurrences count: S* stands in "S*, a cat" and "(S*)'s hat" but neither in "US*" nor in "S*2" or "S**".
    """
    own_ends = re.escape(placeholder[-1])
    return re.split(rf"(?<!\w){re.escape(placeholder)}(?![\w{own_ends}])", text)
