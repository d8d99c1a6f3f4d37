"""Feeds the readers with damaged and invented files, and stops at the first that is not read and not refused either.

    python tests/engine/files/fuzz.py --mutations 100000 [--container pickle] [--seed 0]

A file must be read, or be refused by a ValueError or OSError of one sentence, within SECONDS and MEMORY. What a run
comes to depends on the seed alone. The file being read is on the disk, so it is there even if the process dies of it.
"""

from __future__ import annotations

import argparse
import base64
import faulthandler
import io
import random
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

if __name__ == "__main__":
    sys.path.insert(1, str(Path(__file__).resolve().parents[3]))  # behind this folder; the tests' conftest is not here

from file_bytes import KEYWORD, PNG, chunk, png_bytes, safetensors_bytes, torch_zip
from measure import memory
from safetensors.torch import save

from ti_engine.files import read_embedding_file
from ti_engine.files.containers.picture_file import write_picture
from ti_engine.files.containers.picture_pixels import picture_around

SECONDS = 5.0
MEMORY = 64_000_000
_ROWS = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
_A1111 = {
    "string_to_token": {"*": 265},
    "string_to_param": {"*": _ROWS},
    "name": "cat",
    "step": 9,
    "sd_checkpoint": None,
}
# What is likely to matter, wherever it comes to stand: limits of integers, and words of the formats.
_PIECES = (
    [
        number.to_bytes(size, "little")
        for size in (1, 2, 4, 8)
        for number in (0, 1, (1 << 8 * size) - 1, 1 << 8 * size - 1)
    ]
    + [
        b".",
        b"(",
        b"t",
        b")",
        b"R",
        b"b",
        b"]",
        b"e",
        b"}",
        b"u",
        b"s",
        b"Q",
        b"\x81",
        b"\x85",
        b"\x86",
        b"\x93",
        b"\x94",
    ]
    + [
        b"h\x00",
        b"q\x00",
        b"j\x05\x00\x00\x00",
        b"cos\nsystem\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"N0",
        b"\x80\x04",
    ]
    + [b'"', b"[", b"[]", b"{", b"{}", b":", b",", b"-1", b"1e999", b"NaN", b"null", b'"F64"', b'"shape"', b'"\\ud800"']
    + [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"IHDR", b"IDAT", b"IEND", b"PLTE", b"VP8X", b"VP8L"]
)


@dataclass(frozen=True)
class Outcome:
    """What became of a container's mutations: how many were read and refused, the slowest, the rise of the memory."""

    read: int
    refused: int
    seconds: float
    bytes: int | None


@dataclass(frozen=True)
class Target:
    """seeds: what is mutated. whole: makes a file of it, with the lengths and checksums that its container asks for."""

    seeds: list[bytes]
    whole: Callable[[bytes], bytes] = bytes


def targets() -> dict[str, Target]:
    """Each container twice: from outside, where little gets past the checksums, and from inside."""
    beside = {"<cat>": _ROWS[:1].expand(3, 8), "loss": np.float64(0.5), "on": torch.device("cpu"), "x": torch.half}
    contents = [_A1111, {"<cat>": _ROWS[0]}, [{"emb": _ROWS.bfloat16()}], _ROWS.half(), _parameter_dict(), beside]
    zips = [_torch_saved(content) for content in contents]
    legacy = [_torch_saved(content, _use_new_zipfile_serialization=False) for content in contents]
    in_float32 = (_A1111, {"<cat>": _ROWS[0]}, [{"emb": _ROWS}], _parameter_dict(), beside)
    pickles = [_torch_pickle(content) for content in in_float32]
    tensors = [
        save({"emb_params": _ROWS}, {"format": "pt"}),
        save({"clip_l": _ROWS.half(), "clip_g": _ROWS[:, :4].clone()}),
    ]
    headers = [data[8 : 8 + int.from_bytes(data[:8], "little")] for data in tensors]
    noise = Image.frombytes("RGB", (16, 32), random.Random(0).randbytes(16 * 32 * 3))
    png = write_picture(_A1111, noise)
    values = [base64.b64decode(_text_of(png))]
    webp = io.BytesIO()
    Image.open(io.BytesIO(png)).save(webp, "WEBP", lossless=True)
    numbers = bytes(_ROWS.untyped_storage())
    return {
        "safetensors": Target(tensors),
        "safetensors header": Target(headers, lambda header: safetensors_bytes(header, numbers)),
        "zip": Target(zips),
        "pickle": Target(pickles, lambda pickle: torch_zip(pickle, {"0": numbers})),
        "legacy pickle": Target(legacy),
        "PNG": Target([png]),
        "PNG chunks": Target([png], _with_checksums),
        "PNG text": Target(values, lambda value: png_bytes(chunk(b"tEXt", KEYWORD + b"\0" + base64.b64encode(value)))),
        "PNG pixels": Target(values, lambda value: _png_around(value, noise)),
        "WebP": Target([webp.getvalue()]),
    }


def fuzz(target: Target, mutations: int, seed: int, file: Path) -> Outcome:
    """Raises AssertionError at the first file that breaks the promise, and leaves it at `file`."""
    read = refused = 0
    slowest = 0.0
    before = memory("VmHWM")
    with file.open("wb", buffering=0) as writer:  # opened once: that takes longer than all the rest
        for number in range(mutations):
            chance = random.Random(seed * 1_000_003 + number)
            writer.seek(0)
            writer.truncate()
            writer.write(target.whole(mutated(chance.choice(target.seeds), target.seeds, chance)))
            began = time.perf_counter()
            sentence = _sentence(file, number)
            slowest = max(slowest, time.perf_counter() - began)
            assert slowest < SECONDS, f"mutation {number} took {slowest:.1f} s: {file}"
            read, refused = read + (not sentence), refused + bool(sentence)
    after = memory("VmHWM")
    rise = after - before if before is not None and after is not None else None
    assert rise is None or rise < MEMORY, f"the memory rose by {rise:,} bytes"
    return Outcome(read, refused, slowest, rise)


def _sentence(file: Path, number: int) -> str:
    """Why `file` is refused, or nothing if it is read."""
    try:
        read_embedding_file(file)
        return ""
    except (ValueError, OSError) as error:
        sentence = str(error)
    except Exception as error:
        raise AssertionError(f"mutation {number} raised {error!r}: {file}") from error
    told = sentence.startswith(f"{file.name}") and sentence.endswith((".", "?")) and sentence.isprintable()
    assert told, f"mutation {number} was refused by {sentence!r}: {file}"
    return sentence


def mutated(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """`data` with one to six changes: bits, bytes, pieces, repetitions, cuts, and parts of `others`."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        at = chance.randrange(len(made) + 1)
        length = min(chance.choice((1, 1, 2, 4, 8, 32, 200)), len(made) - at)
        kind = chance.randrange(8)
        if kind == 0 and at < len(made):
            made[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            made[at : at + length] = chance.randbytes(length)
        elif kind == 2:
            piece = chance.choice(_PIECES)
            made[at : at + len(piece)] = piece
        elif kind == 3:
            made[at:at] = chance.choice(_PIECES) * chance.choice((1, 1, 1, 2, 50))
        elif kind == 4:
            del made[at : at + length]
        elif kind == 5:
            made[at:at] = made[at : at + length] * chance.choice((1, 2, 100))
        elif kind == 6:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            made[at : at + length] = other[start : start + chance.choice((4, 16, 100, 1000))]
        elif chance.random() < 0.2:
            del made[at:]
    return bytes(made)


def _torch_saved(content: Any, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def _torch_pickle(content: Any) -> bytes:
    import zipfile

    with zipfile.ZipFile(io.BytesIO(_torch_saved(content))) as archive:
        return archive.read("archive/data.pkl")


def _parameter_dict() -> dict[str, Any]:
    from torch.nn import Parameter, ParameterDict

    parameters = ParameterDict({"*": Parameter(_ROWS), "@": Parameter(_ROWS[:1])})
    return {"string_to_token": {"*": 265, "@": 1}, "string_to_param": parameters}


def _text_of(png: bytes) -> bytes:
    start = png.index(KEYWORD) + len(KEYWORD) + 1
    return png[start : start + int.from_bytes(png[start - len(KEYWORD) - 9 : start - len(KEYWORD) - 5], "big") - 16]


def _with_checksums(png: bytes) -> bytes:
    """Every chunk that can still be told apart, with the checksum that fits to what is in it now."""
    at, made = len(PNG), [png[: len(PNG)]]
    while at + 12 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        body = png[at + 4 : at + 8 + length]
        made.append(png[at : at + 4] + body + zlib.crc32(body).to_bytes(4, "big"))
        at += length + 12
    return b"".join(made)


def _png_around(value: bytes, picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture_around(value, picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=1000, metavar="N", help="of each container [1000]")
    parser.add_argument("--container", action="append", choices=list(targets()), help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    print(f"{'container':20} {'read':>8} {'refused':>8} {'slowest':>9} {'memory':>9} {'in all':>8}")
    for name, target in targets().items():
        if arguments.container and name not in arguments.container:
            continue
        faulthandler.dump_traceback_later(arguments.mutations * SECONDS, exit=True)
        began = time.perf_counter()
        outcome = fuzz(target, arguments.mutations, arguments.seed, folder / "fuzzed.pt")
        seconds = time.perf_counter() - began
        megabytes = "-" if outcome.bytes is None else f"{outcome.bytes / 1e6:.1f} MB"
        slowest = f"{outcome.seconds * 1000:.0f} ms"
        print(
            f"{name:20} {outcome.read:8,} {outcome.refused:8,} {slowest:>9} {megabytes:>9} {seconds:6.0f} s", flush=True
        )
    (folder / "fuzzed.pt").unlink(missing_ok=True)
    folder.rmdir()


if __name__ == "__main__":
    main()
