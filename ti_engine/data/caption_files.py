"""Texts of caption files: those beside pictures, and those with a line for each picture."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

from .picture_files import CAPTION_SUFFIXES

_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(file: Path) -> str:
    """A text file in UTF-8, or in UTF-16 with its mark as Windows writes it. ValueError for what is no text."""
    if file.exists() and not file.is_file():
        raise ValueError(f"{file.name} is no file; give a text file with the captions.")
    try:
        data = file.read_bytes()
        text = data.decode("utf-16" if data.startswith(_WIDE) else "utf-8-sig")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no caption file {file.name}; check the path.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file.name} is no text in UTF-8; save the captions as such.") from error
    if "\0" in text:
        raise ValueError(f"{file.name} is no text in UTF-8; save the captions as such.")
    return text


def split_lines(text: str) -> list[str]:
    """The lines of a text, whatever ends them (Unix, Windows, old Macs), without spaces around them."""
    lines = re.split("\r\n|\r|\n", text.removeprefix("\ufeff"))
    return [line.strip() for line in (lines[:-1] if not lines[-1] else lines)]


def captions_beside(pictures: Sequence[Path]) -> tuple[list[str | None], list[str]]:
    """For each picture the text of its caption file or None, and warnings about files that are not used.

    cat.png has its caption in cat.png.txt, cat.png.caption, cat.txt or cat.caption, in this order and in any case; the
    lines of one are put together. Raises ValueError for a file that is no text.
    """
    folders: dict[Path, list[str]] = {}
    captions: list[str | None] = []
    warnings = []
    for picture in pictures:
        if picture.parent not in folders:
            folders[picture.parent] = sorted(file.name for file in picture.parent.iterdir())
        found = [picture.parent / name for name in _candidates(picture, folders[picture.parent])]
        texts = {file: " ".join(filter(None, split_lines(read_text(file)))) for file in found if file.is_file()}
        captions.append(next(filter(None, texts.values()), None))
        if len(set(texts.values())) > 1:
            used = next(file.name for file, text in texts.items() if text)
            others = " and ".join(file.name for file in texts if file.name != used)
            warnings.append(f"{picture.name} has several caption files; {used} is used and {others} is not.")
    return captions, warnings


def _candidates(picture: Path, names: Sequence[str]) -> list[str]:
    """Those of `names` that a caption of `picture` may have, the best one first."""
    wanted = [base + suffix for base in (picture.name, picture.stem) for suffix in CAPTION_SUFFIXES]
    exact = [name for name in wanted if name in names]
    alike = [name for want in wanted for name in names if name.casefold() == want.casefold()]
    return list(dict.fromkeys(exact or alike))
