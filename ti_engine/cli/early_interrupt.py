"""Ctrl-C while libraries are being imported, which takes seconds: one sentence and no traceback."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupt_ends_the_program() -> Iterator[None]:
    """While this lasts Ctrl-C ends the process at once; afterwards it does what it did before.

    For imports: libraries that are half imported take an exception for something that is missing, and go on without.
    Changes nothing where Ctrl-C is not Python's own KeyboardInterrupt, or outside of the main thread's control.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    try:
        signal.signal(signal.SIGINT, _leave)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"\ntextual-inversion: stopped; nothing was written.\n")
    os._exit(130)
