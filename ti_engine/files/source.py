"""A file's bytes, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from .refused import Refused


@dataclass(frozen=True)
class Source:
    """An open file of `size` bytes."""

    file: BinaryIO
    size: int

    def read(self, begin: int, count: int) -> bytearray:
        """Exactly `count` bytes from `begin` on. Raises Refused where there are fewer, before it takes any memory."""
        if begin < 0 or count < 0 or begin + count > self.size:
            raise Refused(f"is cut off: {self.size:,} of at least {begin + count:,} bytes; download it again")
        data = bytearray(count)
        self.file.seek(begin)
        if self.file.readinto(data) != count:  # type: ignore[attr-defined]
            raise Refused("became shorter while it was read; try again")
        return data

    def head(self, count: int) -> bytes:
        """The first `count` bytes, or all if there are fewer."""
        return bytes(self.read(0, min(count, self.size)))
