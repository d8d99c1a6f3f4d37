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

from filelock import FileLock, Timeout  # torch brings it

_SECONDS_BETWEEN = 0.3


@contextmanager
def hold(path: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of the file `path`, and waits for it as long as somebody else does.

    waiting: called about three times a second with a sentence that names the owner; to give up, it raises. The lock is
    the operating system's, so it is free as soon as its owner is dead. Raises OSError where the disk takes no lock.
    """
    lock, owner = FileLock(path), path.with_suffix(".json")
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
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
    """Whether the lock is free; then it is held while this lasts."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _name_of(owner: Path) -> str:
    try:
        facts = json.loads(owner.read_text("utf-8"))
        return f"Process {int(facts['pid'])} on {str(facts['machine'])[:60]}"
    except (OSError, ValueError, KeyError, TypeError):
        return "Another process"
