"""Where the host keeps embeddings, and which names lead there."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import folder_paths

_FOLDER_NAME = "embeddings"
_EXTENSIONS = (".safetensors", ".pt", ".bin")  # that the host tries, in this order


def embedding_folders() -> list[str]:
    """All embeddings folders; files are saved into the first."""
    return folder_paths.get_folder_paths(_FOLDER_NAME)


def embedding_files() -> list[str]:
    """The names of all embedding files, relative to their folder."""
    return folder_paths.get_filename_list(_FOLDER_NAME)


def embedding_path(name: str) -> Path:
    """The file of a name from `embedding_files`. ValueError if it is not there (any more)."""
    found = folder_paths.get_full_path(_FOLDER_NAME, name)
    if found is None:
        raise ValueError(f"There is no embedding {name!r} in the embeddings folders; press R to read the list again.")
    return Path(found)


def file_fingerprint(path: Path) -> str:
    """Changes whenever the file does."""
    stat = path.stat()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{stat.st_mtime_ns}-{stat.st_size}-{digest}"


def slug(name: str) -> str:
    """`name` as a prompt can write it after `embedding:`: letters, digits, - and _, sub-folders with /.

    Raises ValueError for names that lead out of the folder or have nothing left.
    """
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name.strip().startswith(("/", "~")) or re.match(r"^[A-Za-z]:", name.strip()):
        raise ValueError(
            f"name {name!r} leads out of the embeddings folder; use a plain name such as my-word or pets/cat."
        )
    parts[-1] = re.sub(r"\.safetensors$", "", parts[-1].strip(), flags=re.IGNORECASE)
    slugs = [re.sub(r"[^\w-]+", "-", part.strip()).strip("-_") for part in parts]
    if not all(slugs):
        raise ValueError(f"name {name!r} has no letter or digit in it; use a name such as my-word or pets/cat.")
    return "/".join(slugs)


def free_path(name: str) -> Path:
    """A path in the first embeddings folder for the slug `name` that no file has: name, name-2, name-3, ..."""
    folder = Path(embedding_folders()[0])
    path = folder / f"{name}.safetensors"
    number = 2
    while any(path.with_suffix(extension).exists() for extension in _EXTENSIONS):
        path = folder / f"{name}-{number}.safetensors"
        number += 1
    return path


def same_stem(path: Path) -> list[str]:
    """Other embedding files with the stem of `path`: the host picks one of them at random for the bare stem."""
    found = []
    for folder in embedding_folders():
        for extension in _EXTENSIONS:
            found += [str(p) for p in Path(folder).rglob(path.stem + extension) if p.resolve() != path.resolve()]
    return sorted(set(found))


def temporary_folder() -> Path:
    """Where pictures that only the page shows are kept; the host empties it when it starts."""
    return Path(folder_paths.get_temp_directory())


def embedding_name(path: Path) -> str:
    """What a prompt writes after `embedding:` for a file in an embeddings folder: sub-folder/stem."""
    for folder in embedding_folders():
        if path.is_relative_to(folder):
            return path.relative_to(folder).with_suffix("").as_posix()
    return path.stem
