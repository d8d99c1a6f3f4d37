"""Which files are the training pictures: a folder's, in natural order, and what is left out of it with the reason."""

from __future__ import annotations

import importlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from .pictures import read_picture

CAPTION_SUFFIXES = (".txt", ".caption")
_HIDDEN_ON_WINDOWS = ("thumbs.db", "desktop.ini")
_PLUGINS = {"pillow_heif": "register_heif_opener"}  # packages beside Pillow, and what makes it open their formats
_NEED_A_PLUGIN = (".heic", ".heif", ".hif")


@dataclass(frozen=True)
class PictureFiles:
    """Pictures [3, H, W] in 0..1, the names that tell them apart, their files, and warnings that name files."""

    pictures: list[Tensor]
    names: list[str]
    files: list[Path]
    warnings: list[str]


def read_pictures(paths: Sequence[str | Path], in_use: Sequence[str | Path] = ()) -> PictureFiles:
    """The pictures in files and folders. in_use: files that serve otherwise, so that a folder may hold them.

    A folder stands for every picture directly in it that Pillow can open, in natural order. What is left out of it
    (another format, a damaged or animated picture, a sub-folder) is a warning with the reason; hidden files are passed
    over. Raises ValueError for a file given by its own name that cannot be read, and for a folder without a picture.
    """
    warnings: list[str] = []
    pictures: list[Tensor] = []
    files: list[Path] = []
    for path in map(Path, _as_meant([str(path) for path in paths])):
        if not path.is_dir():
            picture, lost = read_picture(path)
            pictures, files, warnings = [*pictures, picture], [*files, path], warnings + lost
            continue
        inside, left_out = folder_pictures(path, in_use)
        before = len(files)
        for file in inside:
            try:
                picture, lost = read_picture(file)
            except ValueError as error:
                left_out.append(str(error))
                continue
            pictures, files, warnings = [*pictures, picture], [*files, file], warnings + lost
        sentences = [f"Left out of the folder {path}: {reason}" for reason in left_out]
        if len(files) == before:
            raise ValueError(" ".join([f"The folder {path} holds no picture to learn from.", *sentences]))
        warnings += sentences
    return PictureFiles(pictures, _names(files), files, warnings)


def folder_pictures(folder: Path, in_use: Sequence[str | Path] = ()) -> tuple[list[Path], list[str]]:
    """The picture files directly in a folder, by their endings, in natural order; and what is left out, with why."""
    used = {Path(file).resolve() for file in in_use}
    visible = [entry for entry in folder.iterdir() if not is_hidden(entry.name) and entry.resolve() not in used]
    visible.sort(key=lambda entry: natural_key(entry.name))
    endings = picture_suffixes()
    pictures = [entry for entry in visible if entry.suffix.lower() in endings and not entry.is_dir()]
    stems = {name.casefold() for file in pictures for name in (file.name, file.stem)}
    captions = [entry for entry in visible if entry.suffix.lower() in CAPTION_SUFFIXES and not entry.is_dir()]
    folders = [entry.name for entry in visible if entry.is_dir()]
    lonely = [entry.name for entry in captions if entry.stem.casefold() not in stems]
    others = [e.name for e in visible if e not in pictures and e not in captions and e.name not in folders]
    phone = [name for name in others if Path(name).suffix.lower() in _NEED_A_PLUGIN]
    unknown = [name for name in others if name not in phone]
    reasons = (
        (folders, "a sub-folder, which is not looked into; give it by name to learn from it"),
        (lonely, "a caption whose picture is not there"),
        (phone, "Pillow opens it with the package pillow-heif only; install that, or save it as JPEG"),
        (unknown, "no format of pictures that Pillow opens"),
    )
    return pictures, [f"{', '.join(names)} ({reason})." for names, reason in reasons if names]


def picture_suffixes() -> set[str]:
    """The endings (".png", ...) of all formats that Pillow can open here, with plugins that are installed."""
    Image.init()
    for package, register in _PLUGINS.items():
        try:
            getattr(importlib.import_module(package), register)()
        except (ImportError, AttributeError):
            continue
    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is kept out of sight, such as ._photo.png, .DS_Store and Thumbs.db."""
    return name.startswith(".") or name.lower() in _HIDDEN_ON_WINDOWS


def natural_key(name: str) -> list[Any]:
    """Sorts names as people do: 2.png before 10.png, whatever the case."""
    parts = re.split(r"(\d+)", unicodedata.normalize("NFC", name).casefold())
    return [[int(part) if number % 2 else part for number, part in enumerate(parts)], name]


def _as_meant(paths: list[str]) -> list[str]:
    """`paths` in natural order where a shell wrote them out (*.png gives 1, 10, 2); any other order was chosen."""
    as_text = (paths == sorted(paths)) or (paths == sorted(paths, key=_letters))
    return sorted(paths, key=natural_key) if as_text else paths


def _letters(path: str) -> str:
    """What a shell sorts by in most languages: letters and digits alone, whatever the case."""
    return "".join(c for c in path.casefold() if c.isalnum())


def _names(files: Sequence[Path]) -> list[str]:
    """The files' names; with their folder where two have the same."""
    count = Counter(file.name for file in files)
    return [file.name if count[file.name] == 1 else file.as_posix() for file in files]
