"""Which files are the pictures, and what their captions are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def picture_files(names: Sequence[str]) -> list[Path]:
    """The files called `names`; a folder stands for the pictures in it, by name. ValueError for a folder without."""
    files: list[Path] = []
    for path in map(Path, names):
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES)
        if not inside:
            raise ValueError(f"The folder {path.name} holds no picture ({', '.join(PICTURE_SUFFIXES)}).")
        files += inside
    return files


def captions_for(files: Sequence[Path], caption_file: str | None) -> list[str | None]:
    """A caption or None for each of `files`: lines of `caption_file`, else the .txt beside it; or no list.

    ValueError if the lines are not as many as the pictures, or a file is no text.
    """
    if caption_file is not None:
        lines = _text(Path(caption_file)).splitlines()
        if len(lines) != len(files):
            raise ValueError(
                f"{Path(caption_file).name} has {len(lines)} lines for {len(files)} pictures; write one each."
            )
        return [line.strip() or None for line in lines]
    beside = [file.with_suffix(".txt") for file in files]
    captions = [_text(file).strip() or None if file.is_file() else None for file in beside]
    return captions if any(captions) else []


def _text(file: Path) -> str:
    if file.exists() and not file.is_file():
        raise ValueError(f"{file.name} is no file; give a text file with the captions.")
    try:
        return file.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no caption file {file.name}; check the path.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file.name} is no text in UTF-8; save the captions as such.") from error
