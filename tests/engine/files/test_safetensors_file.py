"""safetensors: what its own library writes comes out bit by bit, and nothing else comes out at all."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from file_bytes import entry, safetensors_bytes
from safetensors.torch import load_file, save_file

from ti_engine.files.containers.container import read_container

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint64,
    torch.uint32,
    torch.uint16,
    torch.uint8,
    torch.complex64,
    torch.bool,
]


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    bits = (bytes(a.reshape(-1).untyped_storage()), bytes(b.reshape(-1).untyped_storage()))
    return a.dtype == b.dtype and a.shape == b.shape and bits[0] == bits[1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_format(tmp_path: Path, dtype: torch.dtype) -> None:
    file = tmp_path / "word.safetensors"
    noise = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).mul(9).to(dtype)
    save_file(
        {"<a b>": noise, "second": noise[:1].clone(), "empty": noise[:0].clone()},
        file,
        {"format": "pt", "wörter": "ja\n"},
    )
    read = read_container(file)
    assert read.metadata == {"format": "pt", "wörter": "ja\n"}
    assert read.warnings == []
    expected = load_file(file)
    assert read.content.keys() == expected.keys()
    assert all(same_bits(read.content[key], expected[key]) for key in expected)


def test_metadata_of_null(tmp_path: Path) -> None:
    (tmp_path / "word.safetensors").write_bytes(safetensors_bytes({"__metadata__": None, "a": entry([2])}, bytes(8)))
    assert read_container(tmp_path / "word.safetensors").metadata == {}
    assert list(load_file(tmp_path / "word.safetensors")) == ["a"]


def test_order_and_shapes_are_kept(tmp_path: Path) -> None:
    """The header's order, not that of the data, and any spaces around the header."""
    text = json.dumps({"b": entry([2], 4), "scalar": entry([]), "a": entry([1, 1, 2], 12)}).encode() + b" " * 7
    (tmp_path / "word.pti").write_bytes(safetensors_bytes(text, struct.pack("<5f", 1, 2, 3, 4, 5)))
    content = read_container(tmp_path / "word.pti").content
    assert list(content) == ["b", "scalar", "a"]
    assert content["b"].tolist() == [2, 3]
    assert content["scalar"].item() == 1
    assert content["a"].tolist() == [[[4, 5]]]


def test_the_tensors_are_the_readers_own(tmp_path: Path) -> None:
    """They may be written to, and the file may be replaced or deleted meanwhile."""
    file = tmp_path / "word.safetensors"
    save_file({"a": torch.ones(2), "b": torch.ones(2)}, file)
    content = read_container(file).content
    content["a"][0] = 5
    file.unlink()
    assert content["b"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("header", "data", "sentence"),
    [
        ({"a": entry([1, 2])}, 7, "is cut off: 7 of 8 bytes of tensors"),
        ({"a": entry([1, 2])}, 9, "goes on for 1 bytes behind its last tensor"),
        ({"a": entry([1, 2]), "b": entry([1, 2], 4)}, 12, "its tensors overlap at byte 4"),
        ({"a": entry([1, 2]), "b": entry([1, 2], 12)}, 20, "leave a gap between them at byte 12"),
        ({"a": entry([1, 2], dtype="F32X")}, 8, "holds numbers in the format 'F32X', which is not read"),
        ({"a": entry([1, 2], dtype="F64")}, 8, r"of shape \[1, 2\] in F64 takes 16 bytes, but its offsets span 8"),
        ({"a": entry([-1, -2])}, 8, r"'a' has the shape \[-1, -2\]"),
        ({"__metadata__": {"a": "b"}}, 0, "holds no tensor"),
        (b'{"a": 1, "a": 2}', 0, "the key 'a' is there twice"),
        (b"{'a': 1}", 0, "broken safetensors header: Expecting property name"),
        ({"__metadata__": {"a": 1}, "b": entry([2])}, 8, "its metadata is not text by text"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, header: object, data: int, sentence: str) -> None:
    (tmp_path / "word.safetensors").write_bytes(safetensors_bytes(header, bytes(data)))
    with pytest.raises(ValueError, match=rf"^word\.safetensors .*{sentence}"):
        read_container(tmp_path / "word.safetensors")


def test_text_within_the_metadata_is_not_counted_as_tensors(tmp_path: Path) -> None:
    """Trainers put whole settings files into the metadata, quotes, brackets and all."""
    settings = json.dumps({str(i): [{"tag": '"\\'}] for i in range(30_000)})
    save_file({"a": torch.ones(2)}, tmp_path / "word.safetensors", {"settings": settings})
    assert read_container(tmp_path / "word.safetensors").metadata["settings"] == settings
