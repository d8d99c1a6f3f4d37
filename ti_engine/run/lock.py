"""One process at a time holds a run."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout  # torch brings it

_SECONDS_BETWEEN = 0.3


class NoLockError(OSError):
    """The disk takes no lock."""


@contextmanager
def hold(path: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of the file `path`, and waits for it as long as somebody else does.

    waiting: called about three times a second with a sentence that names the owner; to give up, it raises. The lock is
    the operating system's, so it is free as soon as its owner is dead. Raises NoLockError.
    """
    lock, owner = FileLock(path), path.with_suffix(".json")
    while not _acquire(lock):
        waiting(f"{_name_of(owner)} trains this run now; waiting for it to end.")
        time.sleep(_SECONDS_BETWEEN)
    try:
        with contextlib.suppress(OSError):  # only said to those who wait
            owner.write_text(json.dumps({"pid": os.getpid(), "machine": platform.node()}), "utf-8")
        yield
    finally:
        lock.release()


@contextmanager
def hold_if_free(path: Path) -> Iterator[bool]:
    """Whether the lock is free; then it is held while this lasts. Raises NoLockError."""
    lock = FileLock(path)
    free = _acquire(lock)
    try:
        yield free
    finally:
        if free:
            lock.release()


def _acquire(lock: BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NoLockError(f"its lock could not be taken ({reason}).") from error
    return True


def _name_of(owner: Path) -> str:
    try:
        facts = json.loads(owner.read_text("utf-8"))
        return f"Process {int(facts['pid'])} on {str(facts['machine'])[:60]}"
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "Another process"
