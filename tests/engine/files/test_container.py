"""What is no embedding at all is refused by what it is, in one sentence, whatever its name ends in."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from file_bytes import entry, png_bytes, safetensors_bytes, webp_bytes, zip_bytes
from safetensors.torch import save

from ti_engine.files import read_embedding_file
from ti_engine.files.containers.container import read_container
from ti_engine.files.limits import MAX_FILE, MAX_LOADED

WORD = {"emb_params": torch.randn(2, 768, generator=torch.Generator().manual_seed(0))}


def refusal(file: Path) -> str:
    """The sentence, checked for the form that all of them have."""
    with pytest.raises(ValueError) as caught:
        read_container(file)
    sentence = str(caught.value)
    assert sentence.startswith(f"{file.name} ")
    assert sentence.endswith((".", "?"))
    assert sentence.isprintable()
    assert len(sentence) < 300
    assert str(file.parent) not in sentence
    return sentence


def of_bytes(data: bytes, folder: Path, name: str = "word.pt") -> str:
    (folder / name).write_bytes(data)
    return refusal(folder / name)


@pytest.mark.parametrize("ending", ["safetensors", "pt", "bin", "png", "pti", "txt", ""])
def test_the_name_says_nothing(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"word.{ending}"
    file.write_bytes(save(WORD))
    assert read_container(file).kind == "safetensors"
    torch.save(WORD, file)
    assert read_container(str(file)).kind == "pickle"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3819\n", "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html>\n<html><head></head></html>", "is a web page"),
        (b"\n  <html lang='en'>", "is a web page"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page or a server's"),
        (b'{"error": "Invalid username or password."}', "is text and not an embedding"),
        (b"Repository not found", "is text and not an embedding"),
        ("Wörter mit Umlauten, ".encode() * 400, "is text and not an embedding"),
        (b"\x1f\x8b\x08\x00" + bytes(40), "is a gzip archive; unpack it"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(40), "is a 7z archive; unpack it"),
        (b"Rar!\x1a\x07\x01\x00" + bytes(40), "is a RAR archive; unpack it"),
        (b"\xfd7zXZ\x00" + bytes(40), "is an xz archive"),
        (b"BZh91AY" + bytes(40), "is a bzip2 archive"),
        (b"\x28\xb5\x2f\xfd" + bytes(40), "is a zstd archive"),
        (bytes(257) + b"ustar\x0000" + bytes(300), r"is a tar archive, or a file of PyTorch before"),
        (zip_bytes({}), "is an empty zip archive"),
        (zip_bytes({"word.pt": b"x", "notes.txt": b"y"}), "is a zip archive of 2 files which PyTorch did not write"),
        (zip_bytes({"word.pt": b"x"}, zipfile.ZIP_DEFLATED), "is a zip archive of 1 files which PyTorch did not"),
        (zip_bytes({"m/data.pkl": b"x"}, zipfile.ZIP_DEFLATED), "is a compressed zip archive"),
        (zip_bytes({"m/data.pkl": b"", "m/code/a.py": b""}), "is a TorchScript program"),
        (b"\x80\x04K\x01.", "is a Python pickle that PyTorch did not write"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "is a JPEG picture, which loses"),
        (b"GIF89a" + bytes(40), "is a GIF picture"),
        (b"BM" + bytes(40), "is a BMP picture"),
        (b"II*\x00" + bytes(40), "is a TIFF picture"),
        (b"\x00\x00\x00\x20ftypavif" + bytes(40), "is an AVIF picture.*convert it to PNG"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(40), "is a JPEG XL picture.*convert it to PNG"),
        (webp_bytes(b"VP8 ", bytes(20)), "is a WebP picture saved with loss"),
        (webp_bytes(b"ANMF", bytes(20)), "is a WebP picture saved as an animation"),
        (png_bytes(), "is a picture without an embedding in it"),
        (b"GGUF" + bytes(40), "is a GGUF model"),
        (b"\x93NUMPY" + bytes(40), "is a NumPy array"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "is an HDF5 file"),
        (b"%PDF-1.7\n\xff" + bytes(40), "is a PDF document"),
        (b"\x7fELF" + bytes(40), "is no file in which embeddings come .*7f 45 4c 46 00"),
        (bytes(4), "is no file in which embeddings come"),
        (bytes(1000), "is no file in which embeddings come"),
    ],
)
def test_lookalikes(tmp_path: Path, data: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        (tmp_path / "word.pt").write_bytes(data)
        read_container(tmp_path / "word.pt")
    refusal(tmp_path / "word.pt")


def windows_lines(data: bytes) -> bytes:
    return data.replace(b"\n", b"\r\n")


def as_utf8(data: bytes) -> bytes:
    return data.decode("latin-1").encode("utf-8")


def with_question_marks(data: bytes) -> bytes:
    return data.decode("utf-8", "replace").encode("utf-8")


@pytest.mark.parametrize("damage", [windows_lines, as_utf8, with_question_marks])
@pytest.mark.parametrize("kind", ["safetensors", "pickle", "picture"])
def test_text_conversions_are_recognised(tmp_path: Path, kind: str, damage, a1111_picture: bytes) -> None:  # type: ignore[no-untyped-def]
    torch.save(WORD, tmp_path / "whole.pt")
    whole = {"safetensors": save(WORD), "pickle": (tmp_path / "whole.pt").read_bytes(), "picture": a1111_picture}[kind]
    (tmp_path / "whole.bin").write_bytes(whole)
    assert read_container(tmp_path / "whole.bin").kind == kind
    assert "text conversion" in of_bytes(damage(whole), tmp_path)


@pytest.mark.parametrize("kind", ["safetensors", "pickle", "legacy pickle", "picture", "WebP"])
def test_every_cut_and_every_appendage_is_noticed(tmp_path: Path, kind: str, a1111_picture: bytes) -> None:
    torch.save(WORD, tmp_path / "zip.pt")
    torch.save(WORD, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    whole = {
        "safetensors": lambda: save(WORD),
        "pickle": (tmp_path / "zip.pt").read_bytes,
        "legacy pickle": (tmp_path / "legacy.pt").read_bytes,
        "picture": lambda: a1111_picture,
        "WebP": lambda: webp_bytes(b"VP8L", b"\x2f\x03\xc0\x00\x00" + bytes(64)),
    }[kind]()
    for length in {1, 5, 9, 60, len(whole) // 3, len(whole) // 2, len(whole) - 30, len(whole) - 1}:
        of_bytes(whole[:length], tmp_path)
    for behind in (b"\0", b"appended", whole):
        of_bytes(whole + behind, tmp_path)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.pt").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.pt")
    with pytest.raises(FileNotFoundError, match=r"^There is no file none\.pt; check the path\.$"):
        read_container(tmp_path / "none.pt")
    with pytest.raises(ValueError, match="zero in its name"):
        read_container("a\0b.pt")
    with pytest.raises(OSError, match="cannot be read"):
        read_container(tmp_path / ("x" * 300))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX")
def test_pipes_devices_and_links(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    assert "is a device" in refusal(tmp_path / "pipe.pt")
    (tmp_path / "word.safetensors").write_bytes(save(WORD))
    (tmp_path / "link.pt").symlink_to(tmp_path / "word.safetensors")
    assert read_container(tmp_path / "link.pt").kind == "safetensors"
    (tmp_path / "broken.pt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"There is no file broken\.pt"):
        read_container(tmp_path / "broken.pt")
    (tmp_path / "circle.pt").symlink_to(tmp_path / "circle.pt")
    with pytest.raises(OSError, match=r"circle\.pt cannot be read"):
        read_container(tmp_path / "circle.pt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX")
def test_a_file_that_is_exchanged_for_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at it and the opening, when waiting for the pipe's other end would take for ever."""
    (tmp_path / "word.safetensors").write_bytes(save(WORD))
    seen = (tmp_path / "word.safetensors").stat()
    os.mkfifo(tmp_path / "pipe.pt")
    monkeypatch.setattr(Path, "stat", lambda _, **__: seen)
    assert "became another file while it was opened" in refusal(tmp_path / "pipe.pt")


def test_a_name_stays_on_one_line(tmp_path: Path) -> None:
    file = tmp_path / "a\x1b[31m\nb.pt"
    try:
        file.write_bytes(b"")
    except OSError:
        pytest.skip("the file system has no such names")
    with pytest.raises(ValueError) as caught:
        read_container(file)
    assert str(caught.value).isprintable()


def test_of_a_large_file_only_the_words_are_read(tmp_path: Path) -> None:
    """A LoRA with a word in it. The file is sparse: its large tensor is never looked at."""
    large, rows = MAX_LOADED, WORD["emb_params"]
    layer = "lora_te_layer"
    header = {
        f"{layer}.lora_up.weight": entry([large // 4]),
        f"{layer}.alpha": entry([], large),
        "<word>": entry([2, 768], large + 4),
    }
    file = tmp_path / "lora.safetensors"
    file.write_bytes(safetensors_bytes(header))
    with file.open("r+b") as handle:
        handle.seek(large, os.SEEK_END)
        handle.write(bytes(4) + rows.numpy().tobytes())
    content = read_container(file, lambda key: key == "<word>").content
    assert torch.equal(content["<word>"], rows)
    assert content[f"{layer}.lora_up.weight"].is_meta
    assert content[f"{layer}.lora_up.weight"].shape == (large // 4,)
    assert all(tensor.is_meta for tensor in read_container(file).content.values())
    assert read_embedding_file(file).words[0].embedding.num_vectors == 2
    with pytest.raises(ValueError, match="holds 48 MiB of words, and at most 48"):
        read_container(file, lambda key: True)


def test_a_file_beyond_all_limits(tmp_path: Path) -> None:
    with (tmp_path / "model.pt").open("wb") as handle:
        handle.write(struct.pack("<Q", 2) + b"{}")
        handle.truncate(MAX_FILE + 1)
    assert "has 4.0 GiB" in refusal(tmp_path / "model.pt")
