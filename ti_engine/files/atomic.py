"""Writing a file so that at every moment it is either the old one, the new one or absent, and never half of one; and
adding to a log, which readers have to read line by line."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")
_LONGEST_SHOWN = 60  # characters of a name
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "writing there is not allowed",
    errno.EPERM: "writing there is not allowed",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a part of its path is a file and not a folder",
    errno.EISDIR: "a folder has that name",
}


def check_writable(path: Path) -> None:
    """Raises OSError with one sentence where nothing could be written to `path`'s folder now; leaves nothing behind.

    For those that work for long before they write. A file that is there already is not tried.
    """
    with _explained(path):
        if stat.S_ISDIR(_mode(path)):
            raise IsADirectoryError(errno.EISDIR, "a folder has that name")
        folder = next((parent for parent in path.absolute().parents if os.path.lexists(parent)), None)
        if folder is None:  # a drive of Windows
            raise FileNotFoundError(errno.ENOENT, "its drive is not there")
        for name in path.absolute().relative_to(folder).parts:  # folders to be made, and the file
            _mode(folder / name)  # which refuses one that is too long
        temporary = _temporary(folder / path.name)
        try:
            _write(temporary, b"", False)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _mode(path: Path) -> int:
    """Of what is there; 0 for nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0


def write_atomically(path: Path, data: bytes, overwrite: bool, synced: bool = True) -> None:
    """Write `data` to `path`; the mode follows the umask. Missing folders are made.

    synced: whether this waits until the data are on the disk. Without, the file may be empty after a loss of power.
    Raises FileExistsError if there is a file and not `overwrite`, OSError for all the disk refuses; both with one
    sentence as text. Whatever was there before is then still there.
    """
    write_all_atomically({path: data}, overwrite, synced)


def write_all_atomically(files: Mapping[Path, bytes], overwrite: bool, synced: bool = True) -> None:
    """The same for files that belong together: all are there or none.

    All are complete on the disk before the first is put into place. (With `overwrite` there remains one gap: a disk
    that refuses the second of two renames leaves the first file new and the second old.)
    """
    for path in files:
        with _explained(path):
            if path.exists() and not overwrite:
                raise FileExistsError
    temporaries: dict[Path, Path] = {}
    placed: list[Path] = []
    try:
        for path, data in files.items():
            with _explained(path):
                _make_folder(path.parent)
                temporaries[path] = _temporary(path)
                _write(temporaries[path], data, synced)
        for path, temporary in temporaries.items():
            with _explained(path):
                if overwrite:
                    os.replace(temporary, path)
                else:
                    _put_into_place(temporary, path)
                    placed.append(path)
        placed.clear()
    finally:
        for path in [*temporaries.values(), *placed]:
            with contextlib.suppress(OSError):  # one that could not be made for its name, or is gone
                path.unlink()


def sync_folder(folder: Path) -> None:
    """Makes sure that files put into a folder are still there under their names after a loss of power, where the system
    can do that: POSIX does not promise it of a rename, and Windows opens no folders."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def append(path: Path, data: bytes) -> None:
    """Adds `data` to the end of a file: the one way to write here of which a part may remain.

    Raises OSError with one sentence for all the disk refuses.
    """
    with _explained(path), path.open("ab") as file:
        file.write(data)


def remove_leftovers(folder: Path) -> None:
    """Deletes what killed writes have left in a folder and below it. For whoever alone writes there."""
    with contextlib.suppress(OSError):  # where nothing can be listed, nothing was written
        for file in folder.rglob(".*.tmp"):
            if _TEMPORARY.fullmatch(file.name):
                with contextlib.suppress(OSError):
                    file.unlink()


def _temporary(path: Path) -> Path:
    """In the same folder, because only within one file system a file is put into place in a single move."""
    return path.with_name(f".{secrets.token_hex(8)}.tmp")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise FileExistsError(f"{path.name} exists already and was not overwritten; choose another name.") from error
    except OSError as error:
        raise _refusal(path, _REASONS.get(error.errno or 0, error.strerror or str(error))) from error
    except ValueError as error:  # Python's own, before the disk is asked
        raise _refusal(path, "its name holds a character that names cannot hold") from error


def _refusal(path: Path, reason: str) -> OSError:
    name = path.name if len(path.name) <= _LONGEST_SHOWN else f"{path.name[:_LONGEST_SHOWN]}..."
    return OSError(f"{name if name.isprintable() else ascii(name)} could not be written, because {reason}.")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, "a file has the folder's name") from error


def _write(path: Path, data: bytes, synced: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if not synced:
            return
        with contextlib.suppress(OSError):  # some network disks cannot
            os.fsync(file.fileno())


def _put_into_place(temporary: Path, path: Path) -> None:
    """A move that fails where a file of that name has appeared in the meantime."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: claim the name first
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.replace(temporary, path)
