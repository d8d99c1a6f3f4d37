"""Why a file is not read."""

from __future__ import annotations


class Refused(ValueError):  # noqa: N818 -- it is no accident, and its text is the rest of a sentence
    """Its text follows the file's name and has no full stop: "is empty (0 bytes); download it again"."""
