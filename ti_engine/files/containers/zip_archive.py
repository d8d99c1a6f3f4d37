"""The zip archive that PyTorch writes: members stored one behind the other without compression.

Nothing is ever unpacked, so that what is in an archive is never more than the file. The layout is that of PKWARE's
APPNOTE 6.3, sections 4.3 and 4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise

from ..limits import MAX_TENSORS
from ..refused import Refused
from ..source import Source

_END = struct.Struct("<4s4H2LH")
_LOCATOR_64 = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s4x2H4x3L3H8xL")  # magic, flags, method, checksum, two sizes, three lengths, offset
_LOCAL = struct.Struct("<4s22x2H")  # magic, two lengths
_ELSEWHERE = (0xFFFF, 0xFFFFFFFF)  # the number is too large for its field and stands in a 64-bit one
_MAX_DIRECTORY = 4 << 20
_MAX_COMMENT = 0xFFFF
_CUT = "is cut off, or its zip archive is broken; download it again"


@dataclass(frozen=True)
class Member:
    """Where a member's own bytes lie in the file; header: where what belongs to it begins.

    packed: whether they are compressed. Such a member is known by its name only, and never read.
    """

    header: int
    begin: int
    size: int
    checksum: int
    packed: bool

    def read(self, source: Source, first: int = 0, count: int | None = None) -> bytearray:
        """`count` bytes from `first` on, or all; the checksum is verified where it is all."""
        count = self.size - first if count is None else count
        if self.packed or not 0 <= first <= first + count <= self.size:
            raise Refused(_CUT)
        data = source.read(self.begin + first, count)
        if count == self.size and zlib.crc32(data) != self.checksum:
            raise Refused("is damaged: a checksum in it is wrong; download it again")
        return data


def archive_members(source: Source) -> dict[str, Member]:
    """Every member of the archive by its name. Raises Refused unless the file is exactly such an archive."""
    count, length, begin = _directory_place(source)
    directory = source.read(begin, length)
    members: dict[str, Member] = {}
    position = 0
    for _ in range(count):
        name, member, position = _entry(source, directory, position, begin)
        if name in members:
            raise Refused(f"has a zip archive with two members {name!a}; it is not read")
        members[name] = member
    if position != length:
        raise Refused(_CUT)
    for before, after in pairwise(sorted(members.values(), key=lambda member: member.header)):
        if after.header < before.begin + before.size:
            raise Refused("has a zip archive whose members overlap, as in a decompression bomb; it is not read")
    return members


def _directory_place(source: Source) -> tuple[int, int, int]:
    """How many entries the directory has, its length and where it begins."""
    looked_at = min(source.size, _END.size + _MAX_COMMENT)
    tail = source.read(source.size - looked_at, looked_at)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or (behind := len(tail) - at - _END.size) < 0:
        raise Refused(_CUT)
    if behind:
        raise Refused(f"goes on for {behind:,} bytes behind its end, where nothing may be; download it again")
    _, disk, first_disk, count_here, count, length, begin, comment = _END.unpack_from(tail, at)
    if {count, length, begin} & set(_ELSEWHERE):
        count_here, count, length, begin = _directory_place_64(source, source.size - _END.size - _LOCATOR_64.size)
    ends = (source.size - _END.size, source.size - _END.size - _LOCATOR_64.size - _END_64.size)
    if disk or first_disk or comment or count_here != count or begin + length not in ends:
        raise Refused(_CUT)
    if count > MAX_TENSORS or length > _MAX_DIRECTORY:
        raise Refused(f"has an archive of {count:,} members, and at most {MAX_TENSORS:,} are read; is it a model?")
    return count, length, begin


def _directory_place_64(source: Source, locator: int) -> tuple[int, int, int, int]:
    magic, _, at, _ = _LOCATOR_64.unpack(source.read(locator, _LOCATOR_64.size))
    if magic != b"PK\x06\x07":
        raise Refused(_CUT)
    magic, *_, count_here, count, length, begin = _END_64.unpack(source.read(at, _END_64.size))
    if magic != b"PK\x06\x06":
        raise Refused(_CUT)
    return count_here, count, length, begin


def _entry(source: Source, directory: bytearray, at: int, end: int) -> tuple[str, Member, int]:
    """A member's name, the member, and where the next entry stands; all members lie before `end`."""
    fields = directory[at : at + _ENTRY.size]
    if len(fields) < _ENTRY.size:
        raise Refused(_CUT)
    magic, flags, method, checksum, packed_size, size, *lengths, header = _ENTRY.unpack(fields)
    name_length, extra_length, comment_length = lengths
    at += _ENTRY.size
    name = directory[at : at + name_length]
    at += name_length
    size, packed_size, header = _wide(directory[at : at + extra_length], size, packed_size, header)
    if magic != b"PK\x01\x02":
        raise Refused(_CUT)
    if flags & 1:
        raise Refused("is an encrypted zip archive; unpack it and name the embedding in it")
    local_magic, local_name_length, local_extra_length = _LOCAL.unpack(source.read(header, _LOCAL.size))
    begin = header + _LOCAL.size + local_name_length + local_extra_length
    if local_magic != b"PK\x03\x04" or begin + packed_size > end:
        raise Refused(_CUT)
    if source.read(header + _LOCAL.size, local_name_length) != name:
        raise Refused("has a zip archive that gives one member two names; it is not read")
    packed = method != 0 or packed_size != size
    member = Member(header, begin, packed_size, checksum, packed)
    return _checked_name(name), member, at + extra_length + comment_length


def _wide(extra: bytearray, size: int, packed_size: int, header: int) -> list[int]:
    """The numbers, with those that did not fit into 32 bits taken from the extra field, where they stand in order."""
    numbers = [size, packed_size, header]
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            field = extra[at + 4 : at + 4 + length]
            wide = [number for (number,) in struct.iter_unpack("<Q", field[: len(field) // 8 * 8])]
            return [wide.pop(0) if number == _ELSEWHERE[1] and wide else number for number in numbers]
        at += 4 + length
    return numbers


def _checked_name(name: bytearray) -> str:
    text = name.decode("utf-8", "backslashreplace")
    if text.startswith("/") or ".." in text.replace("\\", "/").split("/"):
        raise Refused(f"has a zip archive whose member {text!a} leads out of it; it is not read")
    return text
