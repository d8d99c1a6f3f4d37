"""Written files: the same bytes for the same word, whole or not at all, with nothing in them but what belongs there."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from ti_engine import TokenEmbedding, TrainConfig, TrainRecord
from ti_engine.files import atomic, load_embedding, save_embedding, training_metadata
from ti_engine.files.atomic import write_all_atomically
from ti_engine.files.formats.metadata import description_metadata, shortened
from ti_engine.files.thumbnail import SIDE, thumbnail
from ti_engine.word.families import FAMILIES
from ti_engine.word.merging import made_of

NOISE = Image.effect_noise((900, 300), 90).convert("RGB")


def word(family: str = "sd1", count: int = 2, **fields: Any) -> TokenEmbedding:
    generator = torch.Generator().manual_seed(1)
    widths = FAMILIES[family].widths
    return TokenEmbedding(
        {key: torch.randn(count, width, generator=generator) for key, width in widths.items()}, **fields
    )


def metadata_of(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as opened:
        return opened.metadata()


RECORD = training_metadata(
    TrainConfig(),
    TrainRecord("S*", {step: {"clip_l": torch.zeros(1, 768)} for step in range(11)}, [0.5] * 10, {0: torch.ones(16)}),
    "sd-v1-5",
    "ab" * 32,
    4,
)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "sd3"])
def test_written_read_and_written_again_is_the_same_file(family: str, tmp_path: Path) -> None:
    metadata = {**RECORD, "modelspec.date": "2025-01-02T03:04:05Z", "note": '猫 "quoted"\n'}
    before = word(family, placeholder="<cat>", metadata=metadata)
    (first,) = save_embedding(before, tmp_path / "a.safetensors")
    loaded = load_embedding(first)
    assert loaded.placeholder == "<cat>"
    assert {key: loaded.metadata[key] for key in metadata} == metadata
    for key, rows in before.vectors.items():
        assert torch.equal(loaded.vectors[key].view(torch.int32), rows.view(torch.int32))
    (second,) = save_embedding(loaded, tmp_path / "b.safetensors")
    assert second.read_bytes() == first.read_bytes()


def test_the_hash_is_that_of_all_bytes_behind_the_header(tmp_path: Path) -> None:
    embedding = word("sdxl")
    (file,) = save_embedding(embedding, tmp_path / "a.safetensors")
    data = file.read_bytes()
    numbers = data[8 + int.from_bytes(data[:8], "little") :]
    in_order_of_names = b"".join(embedding.vectors[key].numpy().astype("<f4").tobytes() for key in ("clip_g", "clip_l"))
    assert numbers == in_order_of_names
    assert metadata_of(file)["modelspec.hash_sha256"] == "0x" + hashlib.sha256(numbers).hexdigest()
    other = replace(embedding, metadata={"modelspec.hash_sha256": "0xold"})
    (again,) = save_embedding(other, tmp_path / "b.safetensors")
    assert metadata_of(again)["modelspec.hash_sha256"] == metadata_of(file)["modelspec.hash_sha256"]


def test_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    metadata = {"b": "1", "modelspec.date": "2025-01-02", "a": "2"}
    (one,) = save_embedding(word(metadata=metadata), tmp_path / "1.safetensors")
    (two,) = save_embedding(word(metadata=dict(sorted(metadata.items()))), tmp_path / "2.safetensors")
    assert one.read_bytes() == two.read_bytes()
    for length in range(8):  # the numbers begin at a multiple of 8 bytes, as safetensors has it
        (file,) = save_embedding(word(metadata={"a": "x" * length}), tmp_path / "3.safetensors", overwrite=True)
        assert int.from_bytes(file.read_bytes()[:8], "little") % 8 == 0


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_precision_is_a_choice(dtype: str, tmp_path: Path) -> None:
    embedding = word()
    (file,) = save_embedding(embedding, tmp_path / "a.safetensors", dtype=dtype)
    stored = load_file(file)["emb_params"]
    assert stored.dtype == getattr(torch, dtype)
    assert torch.equal(stored, embedding.vectors["clip_l"].to(stored.dtype))


def test_what_float16_cannot_hold_is_said(tmp_path: Path) -> None:
    loud = TokenEmbedding({"clip_l": torch.full((1, 768), -1e5)})
    with pytest.raises(ValueError, match=r"values up to 1e\+05, float16 ends at 6.55e\+04"):
        save_embedding(loud, tmp_path / "a.safetensors", dtype="float16")
    assert save_embedding(loud, tmp_path / "a.safetensors", dtype="bfloat16")


@pytest.mark.parametrize(
    ("family", "architecture"),
    [
        ("sd1", "stable-diffusion-v1/textual-inversion"),
        ("sd2", "stable-diffusion-v2-512/textual-inversion"),
        ("sdxl", "stable-diffusion-xl-v1-base/textual-inversion"),
        ("flux", None),
    ],
)
def test_the_architecture_is_told_where_it_has_a_name(family: str, architecture: str | None, tmp_path: Path) -> None:
    (file,) = save_embedding(word(family), tmp_path / "a.safetensors")
    assert metadata_of(file).get("modelspec.architecture") == architecture


def test_what_its_maker_says_is_in_the_file(tmp_path: Path) -> None:
    said = description_metadata(
        title="My cat", author="A", license="CC0-1.0", description="A cat.", usage_hint="at the end", tags="cat, pet",
        negative=True, thumbnail=thumbnail(NOISE), merged_from=made_of(["a", "b, c"], [0.6, -1]),
    )  # fmt: skip
    (file,) = save_embedding(word(placeholder="<cat>", metadata=said), tmp_path / "a.safetensors")
    metadata = metadata_of(file)
    assert metadata["modelspec.title"] == "My cat"
    assert metadata["modelspec.trigger_phrase"] == "<cat>"
    assert metadata["modelspec.is_negative_embedding"] == "true"
    assert metadata["modelspec.merged_from"] == "a (0.6), b  c (-1)"
    for name, text in {"author": "A", "license": "CC0-1.0", "tags": "cat, pet", "usage_hint": "at the end"}.items():
        assert metadata[f"modelspec.{name}"] == text
    kind, content = metadata["modelspec.thumbnail"].split(",")
    assert kind == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert (picture.format, picture.size) == ("JPEG", (SIDE, 85))
    assert description_metadata(title="", negative=None) == {}


def test_a_thumbnail_shows_the_picture() -> None:
    red = Image.new("RGB", (10, 20), "red")
    picture = Image.open(io.BytesIO(base64.b64decode(thumbnail(red).split(",")[1]))).convert("RGB")
    assert picture.size == (10, 20)
    red_value, green, blue = picture.getpixel((5, 10))  # type: ignore[misc]
    assert red_value > 240 and green < 16 and blue < 16


def test_a_picture_holds_what_a1111_keeps_and_all_metadata(tmp_path: Path) -> None:
    metadata = {**RECORD, "modelspec.author": "A", "modelspec.thumbnail": "data:image/jpeg;base64,AAAA"}
    before = word("sd2", placeholder="<cat>", metadata=metadata)
    (file,) = save_embedding(before, tmp_path / "tom.png", program="a1111")
    content = json.loads(base64.b64decode(Image.open(file).info["sd-ti-embedding"]))
    assert content["string_to_token"] == {"*": 265}
    assert list(content["string_to_param"]) == ["*"]
    assert torch.equal(torch.tensor(content["string_to_param"]["*"]["TORCHTENSOR"]), before.vectors["clip_h"])
    fields = {"name": "tom", "step": 10, "sd_checkpoint": "ab" * 5, "sd_checkpoint_name": "sd-v1-5"}
    assert {name: content[name] for name in fields} == fields
    loaded = load_embedding(file)
    assert torch.equal(loaded.vectors["clip_h"].view(torch.int32), before.vectors["clip_h"].view(torch.int32))
    assert loaded.placeholder == "<cat>"
    del metadata["modelspec.thumbnail"]  # the picture is its own
    assert {key: loaded.metadata[key] for key in metadata} == metadata
    assert "modelspec.thumbnail" not in loaded.metadata
    (again,) = save_embedding(loaded, tmp_path / "sub" / "tom.png")
    assert again.read_bytes() == file.read_bytes()


def test_what_others_wrote_under_our_keys_is_no_obstacle(tmp_path: Path) -> None:
    for number, text in enumerate(["[]", "{", '{"version": 1}', '{"version": 2, "model": 3}']):
        odd = word(metadata={"textual_inversion": text, "step": "many"})
        (file,) = save_embedding(odd, tmp_path / f"{number}.png")
        assert load_embedding(file).metadata["textual_inversion"] == text


def test_nothing_of_the_machine_is_in_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "private-folder"
    for name in ("one", "two"):
        save_embedding(word(metadata=dict(RECORD)), folder / f"{name}.safetensors", overwrite=True)
    data = (folder / "one.safetensors").read_bytes()
    for secret in (b"private-folder", b"one.safetensors"):
        assert secret not in data
    assert sorted(file.name for file in folder.iterdir()) == ["one.safetensors", "two.safetensors"]


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("a.pt", {}, "must end in .safetensors"),
        ("a.bin", {"program": "diffusers"}, "pickles, which can carry code"),
        ("a.png", {"program": "invokeai"}, "InvokeAI reads no words from pictures"),
        ("a.png", {"dtype": "float16"}, "there is no float16"),
    ],
)
def test_other_files_are_not_written(name: str, options: dict[str, str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        save_embedding(word(), tmp_path / name, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is one of SDXL"):
        save_embedding(word("sdxl"), tmp_path / "a.png")
    with pytest.raises(ValueError, match="no Unicode text"):
        save_embedding(word(placeholder="\udcff"), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_files_that_belong_together_are_all_there_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    files[1].write_bytes(b"old")
    contents = {file: f"new {file.name}".encode() for file in files}
    with pytest.raises(FileExistsError, match="b exists already"):
        write_all_atomically(contents, overwrite=False)
    assert [file.name for file in tmp_path.iterdir()] == ["b"]

    write, place = atomic._write, atomic._put_into_place

    def second_fails(path: Path, data: bytes, synced: bool) -> None:
        if data == b"new b":
            raise OSError(28, "No space left on device")
        write(path, data, synced)

    monkeypatch.setattr(atomic, "_write", second_fails)
    with pytest.raises(OSError, match="b could not be written, because the disk is full"):
        write_all_atomically(contents, overwrite=True)
    monkeypatch.setattr(atomic, "_write", write)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"b": b"old"}

    files[1].unlink()

    def second_has_appeared(temporary: Path, path: Path) -> None:
        if path.name == "b":
            raise FileExistsError(path)
        place(temporary, path)

    monkeypatch.setattr(atomic, "_put_into_place", second_has_appeared)
    with pytest.raises(FileExistsError, match="b exists already"):
        write_all_atomically(contents, overwrite=False)
    assert not list(tmp_path.iterdir())
    write_all_atomically(contents, overwrite=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"a": b"new a", "b": b"new b"}


def test_a_name_too_long_or_taken_by_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"could not be written, because the name is too long\.$"):
        save_embedding(word(), tmp_path / ("a" * 300 + ".safetensors"))
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(OSError, match="because a folder has that name"):
        save_embedding(word(), tmp_path / "folder.safetensors", overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.safetensors"]


def test_a_word_out_of_a_lora_is_no_lora(tmp_path: Path) -> None:
    """Its file tells nothing of the LoRA's pictures and folders, and shows no other title."""
    lora = {
        "ss_dataset_dirs": '{"10_my cat": 5}', "sshs_model_hash": "ab", "modelspec.author": "A",
        "modelspec.architecture": "stable-diffusion-v1/lora", "modelspec.title": "My LoRA",
    }  # fmt: skip
    (file,) = save_embedding(word(placeholder="<cat>", metadata=lora), tmp_path / "cat.safetensors")
    metadata = metadata_of(file)
    assert not [key for key in metadata if key.startswith("ss")]
    told = {key: metadata[f"modelspec.{key}"] for key in ("architecture", "title", "author")}
    assert told == {"architecture": "stable-diffusion-v1/textual-inversion", "title": "<cat>", "author": "A"}


def test_what_is_too_long_for_a_file_is_named_and_left_out(tmp_path: Path) -> None:
    long = {"a": "x" * 500_000, "b": "\u732b" * 200_000, "c": "y" * 300_000, "modelspec.author": "A", **RECORD}
    short, left_out = shortened(word(metadata=long))
    assert left_out == ["b"]
    assert short.metadata == {key: text for key, text in long.items() if key not in left_out}
    save_embedding(short, tmp_path / "cat.safetensors")
    assert shortened(word(metadata=dict(RECORD)))[1] == []


def test_a_header_that_no_reader_would_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorten it"):
        save_embedding(word(metadata={"note": "x" * (1 << 20)}), tmp_path / "a.safetensors")
