"""What the tokens of a vocabulary are called in sentences, and which of them are punctuation."""

from __future__ import annotations

import unicodedata

_MARKS = ("</w>", "\u2581", "\u0120")  # with which CLIP, T5 and language models write the ends of words
_LAST_ASCII = "\x7f"


def token_text(token: str) -> str:
    """`token` of a vocabulary as a person writes it."""
    for mark in _MARKS:
        token = token.removeprefix(mark).removesuffix(mark)
    return token


def is_punctuation(token: str) -> bool:
    """Whether a token's text is a comma, a hyphen, a bracket, or nothing at all.

    Beyond ASCII every character counts as a letter: vocabularies of bytes write letters of other scripts in signs.
    """
    return not any(character.isalnum() or character > _LAST_ASCII for character in token)


def without_foreign_punctuation(words: str) -> str:
    """`words` with spaces for punctuation beyond ASCII, such as the comma of Chinese, whose tokens cannot be told."""
    return "".join(
        " " if character > _LAST_ASCII and unicodedata.category(character)[0] == "P" else character
        for character in words
    )
