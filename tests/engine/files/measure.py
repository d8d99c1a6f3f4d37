"""Reads every file of a folder in a process of its own and prints, as JSON, what it came to and what it cost.

python measure.py FOLDER  ->  {file name: {"sentence": the refusal or null, "seconds": ..., "bytes": memory or null}}

Memory is the peak above what the process had before the file; only Linux lets a process forget its former peaks.
"""

from __future__ import annotations

import copyreg
import json
import sys
import time
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[3]))  # behind this folder; the tests' conftest is not here

from malicious import EXTENSION

from ti_engine.files.containers.container import read_container

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def measure(file: Path) -> dict[str, object]:
    before = memory("VmRSS", forget=True)
    began = time.perf_counter()
    try:
        read_container(file)
        sentence = None
    except ValueError as error:
        sentence = str(error)
    seconds = time.perf_counter() - began
    peak = memory("VmHWM")
    return {"sentence": sentence, "seconds": seconds, "bytes": peak - before if peak and before else None}


def memory(field: str, forget: bool = False) -> int | None:
    """A figure of this process in bytes: VmRSS (now) or VmHWM (its peak; forget: from now on). None if not Linux."""
    try:
        if forget:
            _FORGET.write_text("5")
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return int(lines[field].split()[0]) * 1024
    except (OSError, KeyError):
        return None


if __name__ == "__main__":
    copyreg.add_extension("os", "mkdir", EXTENSION)  # so that the pickles which use the registry are live
    print(json.dumps({file.name: measure(file) for file in sorted(Path(sys.argv[1]).iterdir())}))
