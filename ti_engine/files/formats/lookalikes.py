"""Which container a file's first bytes announce, and what the file is instead if it announces none."""

from __future__ import annotations

from pathlib import PurePath

from ..limits import MAX_HEADER
from ..refused import Refused
from ..source import Source

_CONTAINERS = {
    b"PK\x03\x04": "pickle",  # PyTorch's zip archive
    b"\x80\x02": "pickle",  # PyTorch before 1.6, or no PyTorch at all
    b"\x80\x03": "pickle",
    b"\x80\x04": "pickle",
    b"\x80\x05": "pickle",
    b"\x89PNG\r\n\x1a\n": "picture",
}
_UNPACK = "unpack it and name the file in it"
_TO_PNG = "and pictures are read from PNG and lossless WebP; convert it to PNG without loss"
_NO_CARRIER = "so there is no embedding in it; PNG and lossless WebP can hold one"
_REFETCH = "download the file itself"
_OTHERS = {
    b"version https://git-lfs": "a Git LFS pointer and not the file itself; fetch it with: git lfs pull",
    b"PK\x05\x06": "an empty zip archive",
    b"\x1f\x8b": f"a gzip archive; {_UNPACK}",
    b"7z\xbc\xaf\x27\x1c": f"a 7z archive; {_UNPACK}",
    b"Rar!\x1a\x07": f"a RAR archive; {_UNPACK}",
    b"\xfd7zXZ\x00": f"an xz archive; {_UNPACK}",
    b"BZh": f"a bzip2 archive; {_UNPACK}",
    b"\x28\xb5\x2f\xfd": f"a zstd archive; {_UNPACK}",
    b"\xff\xd8\xff": f"a JPEG picture, which loses what is hidden in its pixels, {_NO_CARRIER}",
    b"\xff\x0a": f"a JPEG XL picture, {_TO_PNG}",
    b"\x00\x00\x00\x0cJXL ": f"a JPEG XL picture, {_TO_PNG}",
    b"GIF8": f"a GIF picture, {_NO_CARRIER}",
    b"BM": f"a BMP picture, {_NO_CARRIER}",
    b"II*\x00": f"a TIFF picture, {_NO_CARRIER}",
    b"MM\x00*": f"a TIFF picture, {_NO_CARRIER}",
    b"%PDF": "a PDF document and not an embedding",
    b"\x93NUMPY": "a NumPy array without a word's name; save it as safetensors under the key emb_params",
    b"\x89HDF": "an HDF5 file (Keras) and not an embedding",
    b"SQLite format 3": "an SQLite database (Draw Things keeps words so); export it as safetensors there",
    b"GGUF": "a GGUF model and not an embedding",
    b"\x89PNG\n\x1a\n": "a PNG picture that a text conversion has damaged; copy or download it again as binary",
    b"\x89PNG\r\r\n": "a PNG picture that a text conversion has damaged; copy or download it again as binary",
    b"\xc2\x89PNG": "a PNG picture that a text conversion has damaged; copy or download it again as binary",
    b"\xef\xbf\xbdPNG": "a PNG picture that a text conversion has damaged; copy or download it again as binary",
}
_TAR = "a tar archive, or a file of PyTorch before 0.1.10; unpack it, or save it again with a newer PyTorch"
_MANY = 8  # bytes of one kind that are no accident any more: 256 ** -8


def printable_name(path: str | PurePath) -> str:
    """The file's name as it may stand in a sentence: on one line, whatever characters are in it."""
    name = PurePath(path).name or str(path)
    return name if name.isprintable() else ascii(name)


def container_kind(head: bytes) -> str:
    """safetensors, pickle or picture, by a file's first bytes (some hundreds suffice).

    Raises Refused that says what else it is. A file that passes may still be anything.
    """
    if not head:
        raise Refused("is empty (0 bytes); download it again")
    # First, because the header's length that such a file begins with may look like any other magic number.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER:
        return "safetensors"
    for magic, kind in _CONTAINERS.items():
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "picture"
    if what := _instead(head):
        raise Refused(f"is {what}")
    if head[8:9] == b"{":
        return "safetensors"
    raise Refused(
        f"is no file in which embeddings come (it begins with the bytes {head[:8].hex(' ')}); "
        "read are safetensors, PyTorch's .pt and .bin, and pictures by A1111"
    )


def _instead(head: bytes) -> str | None:
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            return what
    if head[4:11] == b"ftypavi":
        return f"an AVIF picture, {_TO_PNG}"
    if head[257:262] == b"ustar":
        return _TAR
    if not _is_text(head):
        return None
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<error")):
        return f"a web page or a server's message and not an embedding; {_REFETCH}"
    return f"text and not an embedding; {_REFETCH}"


def _is_text(head: bytes) -> bool:
    text = _as_utf8(head)
    return text is not None and all(letter.isprintable() or letter in "\t\r\n\f\ufeff" for letter in text)


def _as_utf8(start: bytes) -> str | None:
    """The beginning of a file as text, without a last letter that may be cut in two; None if it is no UTF-8."""
    try:
        return start.decode("utf-8")
    except UnicodeDecodeError as error:
        return start[: error.start].decode("utf-8") if error.end >= len(start) - 1 else None


def text_damage(source: Source) -> str | None:
    """How some program has changed a binary file as if it were text (as in Refused), or None. Looks at 1 MiB.

    Only asked once reading has failed, since a file without any such byte cannot be told from a damaged one.
    """
    start = source.head(1 << 20)
    lines, returned = start.count(b"\n"), start.count(b"\r\n")
    if lines >= _MANY and lines == returned:
        how = "every line end in it was turned into that of Windows"
    elif start.count(b"\xef\xbf\xbd") >= _MANY:
        how = "what is no text in it was replaced by question marks"
    elif start.count(b"\xc2") + start.count(b"\xc3") >= _MANY and _as_utf8(start) is not None:
        how = "its bytes were recoded as UTF-8"
    else:
        return None
    return f"was damaged by a text conversion ({how}); copy or download it again as binary"
