"""Ctrl-C while a run is trained: the first ends it after the step that is being computed, the second at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Within it the first Ctrl-C makes the given function true, and every further one raises KeyboardInterrupt.

    Afterwards Ctrl-C does what it did before. Changes nothing where Ctrl-C is not Python's own KeyboardInterrupt, such
    as where it is ignored, or outside of the main thread.
    """
    pressed = 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        if pressed > 1:
            raise KeyboardInterrupt
        # Not print, which may be in the middle of a line.
        os.write(2, b"\nStopping after this step; Ctrl-C again stops at once.\n")

    taken = False
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        try:
            signal.signal(signal.SIGINT, interrupt)
            taken = True
        except ValueError:
            pass  # not the main thread
    try:
        yield lambda: pressed > 0
    finally:
        if taken:
            signal.signal(signal.SIGINT, signal.default_int_handler)
