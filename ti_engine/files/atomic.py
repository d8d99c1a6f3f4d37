"""Writing a file so that at every moment it is either the old one, the new one or absent, and never half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "writing there is not allowed",
    errno.EPERM: "writing there is not allowed",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ENOTDIR: "a part of its path is a file and not a folder",
}


def write_atomically(path: Path, data: bytes, overwrite: bool) -> None:
    """Write `data` to `path`; the mode follows the umask. Missing folders are made.

    Raises FileExistsError if there is a file and not `overwrite`, OSError for all the disk refuses; both with one
    sentence as text. Whatever was there before is then still there.
    """
    exists = FileExistsError(f"{path.name} exists already and was not overwritten; choose another name.")
    if path.exists() and not overwrite:
        raise exists
    try:
        _make_folder(path.parent)
        # In the same folder, because only within one file system a file can be put into place in a single move.
        temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")
        try:
            _write(temporary, data)
            if overwrite:
                os.replace(temporary, path)
            else:
                _put_into_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError as error:
        raise exists from error
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise OSError(f"{path.name} could not be written, because {reason}.") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, "a file has the folder's name") from error


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
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
