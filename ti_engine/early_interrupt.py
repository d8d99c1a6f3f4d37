"""Ctrl-C while the command line is still being imported, which takes seconds: one sentence and no traceback.

Nothing is done where the engine is a library of another program.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

_PROGRAMS = ("-m", "textual-inversion")  # what Python calls itself while it looks for the module to run, and the script


def hand_back() -> None:
    """From now on Ctrl-C is Python's KeyboardInterrupt again; for the program that has been imported."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    """At once: libraries that are half imported take an exception for something that is missing, and go on without."""
    os.write(2, b"\ntextual-inversion: stopped; nothing was written.\n")
    os._exit(130)


if Path(sys.argv[0]).stem in _PROGRAMS and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave)
