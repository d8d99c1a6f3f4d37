"""Where the host keeps embeddings, and which names lead there.

A link in these folders was made by the owner of the machine: nothing that a client sends makes one. So files are read
through links, as the host does it, wherever they lead. Nothing is saved through one that leads out, and a name that
leads out by itself (`..`, a path) is not looked up.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import folder_paths

from ....ti_engine.data.picture_files import is_hidden
from ....ti_engine.files.formats.pair import partner_path

_FOLDER_NAME = "embeddings"
CORE_EXTENSIONS = (".safetensors", ".pt", ".bin")  # that the host tries, in this order
PICTURES = (".png", ".webp")
READ_EXTENSIONS = (*CORE_EXTENSIONS, ".pti", *PICTURES)
_CARRIER_MARK = b"sd-ti-embedding"  # A1111's, in a chunk before the pixels
_CARRIER_HEAD = 4096  # bytes of a picture in which the mark would be
_RESERVED = re.compile("con|prn|aux|nul|(com|lpt)[0-9]", re.IGNORECASE)  # on Windows, whatever the ending
_LONGEST_SHOWN = 60  # characters of a name
_LARGEST_HASHED = 64 << 20  # bytes; words are small, and larger files are told apart by time and size


def embedding_folders() -> list[str]:
    """All embeddings folders; files are saved into the first."""
    return folder_paths.get_folder_paths(_FOLDER_NAME)


def embedding_files() -> list[str]:
    """The names of all files that may hold words, relative to their folder with / for sub-folders, in order.

    Links are followed. Previews are left out: *.preview.png, and a picture beside a file of the same name unless it
    says that it carries a word.
    """
    names = set()
    for folder in map(Path, embedding_folders()):
        paths = list(_files(folder))
        stems = {path.with_suffix("") for path in paths if path.suffix.lower() not in PICTURES}
        for path in paths:
            if path.suffix.lower() in PICTURES and path.with_suffix("") in stems and not _is_carrier(path):
                continue
            names.add(path.relative_to(folder).as_posix())
    return sorted(names, key=lambda name: (name.casefold(), name))


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, followlinks=True):
        here = Path(place)
        around = {parent.resolve() for parent in (here, *here.parents) if parent.is_relative_to(folder)}
        # A link to a folder around it would lead round and round.
        folders[:] = [name for name in folders if not is_hidden(name) and (here / name).resolve() not in around]
        for file in files:
            path = Path(place, file)
            if is_hidden(file):  # such as ._cat.safetensors, which macOS writes beside cat.safetensors
                continue
            if path.suffix.lower() not in READ_EXTENSIONS or path.stem.lower().endswith(".preview"):
                continue
            if not path.is_symlink() or _is_file(path):
                yield path


def _is_carrier(picture: Path) -> bool:
    try:
        with picture.open("rb") as file:
            return _CARRIER_MARK in file.read(_CARRIER_HEAD)
    except OSError:
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a ring of links
        return False


def _stays_inside(path: Path) -> bool:
    real = path.resolve()
    return any(real.is_relative_to(Path(folder).resolve()) for folder in embedding_folders())


def embedding_path(name: str) -> Path:
    """The file of a name from `embedding_files`, in the first folder that has it.

    ValueError if it is not there (any more), or if the name leads out of the folders. A name that does is not looked up
    at all: whoever asks learns nothing of other files.
    """
    if os.path.isabs(name) or os.path.splitdrive(name)[0] or ".." in re.split(r"[/\\]", name):
        raise ValueError(f"{name!r} leads out of the embeddings folders; copy the file itself into one of them.")
    for folder in map(Path, embedding_folders()):
        if _is_file(folder / name):
            return folder / name
    raise ValueError(f"There is no embedding {name!r} in the embeddings folders; press R to read the list again.")


def other_files_of(name: str) -> list[str]:
    """The files of the same name in the later embeddings folders, which nobody can reach while the first is there."""
    paths = [Path(folder, name) for folder in embedding_folders()]
    return [str(path) for path in paths if _is_file(path)][1:]


def file_fingerprint(path: Path) -> str:
    """Changes whenever the file does, or the one beside it that may hold the other half of its word."""
    beside = partner_path(path)
    return _fingerprint(path) + (_fingerprint(beside) if _is_file(beside) else "")


def _fingerprint(path: Path) -> str:
    stat = path.stat()
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if stat.st_size <= _LARGEST_HASHED else ""
    return f"{stat.st_mtime_ns}-{stat.st_size}-{digest}"


def folders_fingerprint() -> str:
    """Changes whenever any embedding file does: for a name that is not known yet."""
    seen = []
    for name in embedding_files():
        with contextlib.suppress(ValueError, OSError):  # it has gone since it was listed
            stat = embedding_path(name).stat()
            seen.append(f"{name}-{stat.st_mtime_ns}-{stat.st_size}")
    return hashlib.sha256("\n".join(seen).encode("utf-8", "surrogateescape")).hexdigest()


def without_ending(name: str) -> str:
    """`name` without the ending of an embedding file; other dots stay."""
    path_of_name = PurePosixPath(name)
    return str(path_of_name.with_suffix("")) if path_of_name.suffix.lower() in READ_EXTENSIONS else name


def slug(name: str) -> str:
    """`name` as a prompt can write it after `embedding:`: letters, digits, - and _, sub-folders with /.

    Raises ValueError for names that lead out of the folder, that have nothing left, or that Windows cannot write.
    """
    quoted_name = repr(name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}...")
    parts = unicodedata.normalize("NFC", name).strip().replace("\\", "/").split("/")
    if ".." in parts or name.strip().startswith(("/", "~")) or re.match(r"[A-Za-z]:[/\\]", name.strip()):
        raise ValueError(
            f"name {quoted_name} leads out of the embeddings folder; use a plain name such as my-word or pets/cat."
        )
    if len(parts) > 1 and not parts[-1].strip():
        raise ValueError(f"name {quoted_name} ends with a folder; write the file's name behind it, such as pets/cat.")
    parts[-1] = re.sub(r"\.safetensors$", "", parts[-1].strip(), flags=re.IGNORECASE)
    slugs = ["".join(c if _stays(c) else " " for c in part).split() for part in parts if part.strip()]
    slugs = ["-".join(words).strip("-_") for words in slugs]
    if not slugs or not all(slugs):
        raise ValueError(f"name {quoted_name} has no letter or digit in it; use a name such as my-word or pets/cat.")
    if device := next((part for part in slugs if _RESERVED.fullmatch(part)), None):
        raise ValueError(
            f"name {quoted_name} holds {device}, which Windows keeps for a device; use another, such as my-word."
        )
    return "/".join(slugs)


def _stays(character: str) -> bool:
    """Letters, digits, - and _; and the marks on letters, without which many scripts cannot be read."""
    return character in "-_" or character.isalnum() or unicodedata.category(character).startswith("M")


def free_path(name: str) -> Path:
    """A path in the first embeddings folder for the slug `name` that no file has: name, name-2, name-3, ...

    ValueError if a link leads out of the folders there.
    """
    folder = Path(embedding_folders()[0])
    path = folder / f"{name}.safetensors"
    if not _stays_inside(path.parent):
        raise ValueError(f"name {name!r} leads out of the embeddings folders by a link; save into another sub-folder.")
    number = 2
    while any(os.path.lexists(path.with_suffix(extension)) for extension in CORE_EXTENSIONS):  # also a link to nowhere
        path = folder / f"{name}-{number}.safetensors"
        number += 1
    return path


def same_stem(path: Path) -> list[str]:
    """Other embedding files with the stem of `path`: the host picks one of them at random for the bare stem."""
    files = {file for folder in map(Path, embedding_folders()) for file in _files(folder)}
    same = [file for file in files if file.stem == path.stem and file.suffix.lower() in CORE_EXTENSIONS]
    return sorted(str(file) for file in same if file.resolve() != path.resolve())


def same_file(names: Sequence[str]) -> bool:
    """Whether all `names` lead to one file, or to files that differ in their ending alone: some by a link."""
    paths = set()
    for name in names:
        try:
            paths.add(embedding_path(name).resolve().with_suffix(""))
        except (ValueError, OSError):
            return False
    return len(paths) == 1


def temporary_folder() -> Path:
    """Where pictures that only the page shows are kept; the host empties it when it starts."""
    return Path(folder_paths.get_temp_directory())


def embedding_name(path: Path) -> str:
    """What a prompt writes after `embedding:` for a file in an embeddings folder: sub-folder/stem."""
    for folder in embedding_folders():
        if path.is_relative_to(folder):
            return path.relative_to(folder).with_suffix("").as_posix()
    return path.stem
