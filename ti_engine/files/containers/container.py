"""What a file holds, whatever its container is and whatever its name ends in. Nothing in a file is ever run."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..formats.lookalikes import container_kind, printable_name, text_damage
from ..limits import MAX_FILE
from ..refused import Refused
from ..source import Source
from .pickle_file import read_pickle
from .picture_file import read_picture
from .safetensors_file import read_safetensors

_HEAD = 4096  # bytes that tell the containers apart


@dataclass(frozen=True, eq=False)
class Container:
    """A file's content, complete and unchanged, before anyone asks what it means.

    kind: "safetensors", "pickle" or "picture".
    content: safetensors: key -> tensor, in the header's order. Pickle: nested dict, list, str, int, float, bool, None
        and tensors, with every other type (ParameterDict, OrderedDict, tuple, set) turned into these. Picture:
        A1111's dict, as if it came from a pickle. Tensors lie on the CPU in the precision that they are stored in,
        without gradient, each in memory of its own.
    metadata: the `__metadata__` of safetensors, else empty.
    warnings: sentences about what was read all the same.
    """

    kind: str
    content: Any
    metadata: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_container(path: str | Path, wanted: Callable[[str], bool] | None = None) -> Container:
    """The content of `path`, its container found by the bytes in it and never by its name.

    wanted: which tensors (by key) of a safetensors file larger than MAX_LOADED to read: a LoRA with words in it. All
        others, without `wanted` every one, then come as meta tensors: shape and dtype, no numbers. Smaller files are
        read whole.
    Raises ValueError (one sentence that starts with the file's name) for every file that cannot be read or that goes
    beyond the limits, FileNotFoundError or OSError for what the disk refuses. Memory: the file's size plus 64 MB.
    """
    path = Path(path)
    name = printable_name(path)
    try:
        return _read(path, wanted)
    except Refused as refused:
        raise ValueError(f"{name} {refused}" + ("" if str(refused).endswith("?") else ".")) from refused
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no file {name}; check the path.") from error
    except OSError as error:
        raise OSError(f"{name} cannot be read: {error.strerror or error}.") from error


def _read(path: Path, wanted: Callable[[str], bool] | None) -> Container:
    if "\0" in str(path):
        raise Refused("has a zero in its name, which no file has")
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # before opening: a pipe would wait for ever
        raise Refused("is a folder; name the embedding file in it" if path.is_dir() else "is a device and not a file")
    if status.st_size > MAX_FILE:
        size = status.st_size / (1 << 30)
        raise Refused(f"has {size:.1f} GiB, and files of at most {MAX_FILE >> 30} GiB are read; is it a model?")
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())  # what was looked at by its name may be another by now
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE:
            raise Refused("became another file while it was opened; try again")
        source = Source(file, status.st_size)
        kind = container_kind(source.head(_HEAD))
        try:
            return _content(kind, source, wanted)
        except Refused as refused:
            if damage := text_damage(source):
                raise Refused(damage) from refused
            raise


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))


def _content(kind: str, source: Source, wanted: Callable[[str], bool] | None) -> Container:
    if kind == "safetensors":
        return Container(kind, *read_safetensors(source, wanted))
    if kind == "pickle":
        return Container(kind, read_pickle(source))
    content, warnings = read_picture(source)
    return Container(kind, content, warnings=warnings)
