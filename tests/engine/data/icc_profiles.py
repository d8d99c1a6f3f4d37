"""Colour profiles written out by hand (ICC.1:2001-04), because Pillow brings none but sRGB's."""

from __future__ import annotations

import struct

D50 = (0.9642, 1.0, 0.8249)
# The primaries of Display P3, adapted to D50: what phones write.
DISPLAY_P3 = {"rXYZ": (0.5151, 0.2412, -0.0011), "gXYZ": (0.2920, 0.6922, 0.0419), "bXYZ": (0.1571, 0.0666, 0.7841)}


def rgb_profile(primaries: dict[str, tuple[float, float, float]], gamma: float) -> bytes:
    """An RGB display profile with one gamma for all channels."""
    curve = _gamma(gamma)
    tags = {name: _xyz(values) for name, values in primaries.items()}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags | {"rTRC": curve, "gTRC": curve, "bTRC": curve})


def grey_profile(gamma: float) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {"kTRC": _gamma(gamma)})


def cmyk_profile(paper: tuple[int, int, int], ink: tuple[int, int, int]) -> bytes:
    """A printer whose paper without ink has the colour `paper` and all other mixtures `ink` (8 bit Lab)."""
    corners = [paper if corner == 0 else ink for corner in range(16)]
    identity = bytes(range(256))
    table = struct.pack(">4s4x4B", b"mft1", 4, 3, 2, 0) + struct.pack(">9i", *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    table += identity * 4 + b"".join(map(bytes, corners)) + identity * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {name: table for name in ("A2B0", "A2B1", "A2B2")})


def _gamma(gamma: float) -> bytes:
    return struct.pack(">4s4xIH2x", b"curv", 1, round(gamma * 256))


def _xyz(values: tuple[float, float, float]) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *(round(value * 65536) for value in values))


def _profile(kind: bytes, colours: bytes, connection: bytes, tags: dict[str, bytes]) -> bytes:
    text = b"test\0"
    description = struct.pack(">4s4xI", b"desc", len(text)) + text + bytes(78)
    tags = {"desc": description, "wtpt": _xyz(D50), "cprt": b"text\0\0\0\0none\0", **tags}
    place, table, content = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name.encode(), place + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    body = table + content
    head = struct.pack(">I4sI4s4s4s12x4s", 128 + len(body), b"", 0x02100000, kind, colours, connection, b"acsp")
    head = head.ljust(68, b"\0") + struct.pack(">3i", *(round(value * 65536) for value in D50))
    return head.ljust(128, b"\0") + body
