"""Embedding files: round trips bit by bit, and a sentence for everything that is no embedding."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ti_engine import TokenEmbedding, TrainConfig, TrainRecord
from ti_engine.files import atomic, load_embedding, read_embedding_file, save_embedding, training_metadata
from ti_engine.version import VERSION

SD1 = {768: "clip_l"}
SDXL = {768: "clip_l", 1280: "clip_g"}


def word(width: int = 768, count: int = 2, key: str = "clip_l", **fields: object) -> TokenEmbedding:
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(width))
    return TokenEmbedding({key: rows}, **fields)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(
    bits=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4).filter(any),
    metadata=st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=30), max_size=4),
    placeholder=st.sampled_from(["S*", "<cat>", "猫"]),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, bits: list[float], metadata: dict[str, str], placeholder: str
) -> None:
    file = tmp_path_factory.mktemp("files") / "word.safetensors"
    metadata = {key: text for key, text in metadata.items() if not key.startswith("__")}
    before = TokenEmbedding({"clip_l": torch.tensor([bits])}, placeholder, metadata)
    save_embedding(before, file)
    after = load_embedding(file, {4: "clip_l"})
    assert after.placeholder == placeholder
    assert torch.equal(after.vectors["clip_l"].view(torch.int32), before.vectors["clip_l"].view(torch.int32))
    assert {key: after.metadata[key] for key in metadata} == metadata
    save_embedding(after, file, overwrite=True)
    again = load_embedding(file, {4: "clip_l"})
    assert again.metadata == after.metadata


def test_keys_and_metadata_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "cat.safetensors"
    kept = {"note": "mine", "prompt": "{}", "parameters": "x", "templates": "y"}
    save_embedding(word(placeholder="cat*", metadata=kept), file)
    assert list(load_file(file)) == ["emb_params"]
    metadata = load_embedding(file, SD1).metadata
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"
    assert metadata["modelspec.sai_model_spec"] == "1.0.1"
    assert metadata["modelspec.title"] == metadata["modelspec.trigger_phrase"] == "cat*"
    assert metadata["note"] == "mine"
    assert not {"prompt", "parameters", "templates"} & set(metadata)


def test_sdxl_has_its_two_keys(tmp_path: Path) -> None:
    file = tmp_path / "xl.safetensors"
    both = TokenEmbedding({"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)})
    save_embedding(both, file)
    assert set(load_file(file)) == {"clip_l", "clip_g"}
    assert set(load_embedding(file, SDXL).vectors) == {"clip_l", "clip_g"}
    with pytest.raises(ValueError, match=r"width 768 \(clip_l\) and width 1280 \(clip_g\); this model takes width 768"):
        load_embedding(file, SD1)


def test_files_of_other_programs(tmp_path: Path) -> None:
    rows = torch.randn(3, 768)
    cases = {
        "kohya": {"emb_params": rows},
        "onetrainer": {"emp_params": rows},
        "dreambooth": {"clip_l": rows},
        "diffusers": {"<token>": rows},
        "library": {"<token>": rows[0]},
    }
    for name, tensors in cases.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        loaded = load_embedding(tmp_path / f"{name}.safetensors", SD1)
        expected = rows[:1] if name == "library" else rows
        assert torch.equal(loaded.vectors["clip_l"], expected)
        assert loaded.placeholder == ("<token>" if "<token>" in tensors else name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    rows = torch.randn(1, 768).to(dtype)
    save_file({"emb_params": rows}, tmp_path / "a.safetensors")
    loaded = load_embedding(tmp_path / "a.safetensors", SD1).vectors["clip_l"]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, rows.float())
    (word,) = read_embedding_file(tmp_path / "a.safetensors", SD1).words
    assert word.precisions == {"clip_l": str(dtype).removeprefix("torch.")}


def _tensors(**tensors: torch.Tensor) -> Callable[[Path], object]:
    return lambda file: save_file(tensors, file)


def _cut(file: Path) -> None:
    save_file({"emb_params": torch.ones(2, 768)}, file)
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (_tensors(emb_params=torch.ones(1, 1024)), r"width 1024; this model takes width 768 \(clip_l\)"),
        (_tensors(emb_params=torch.full((1, 768), float("nan"))), "NaN or infinity"),
        (_tensors(emb_params=torch.full((1, 768), 1e300, dtype=torch.float64)), "numbers beyond float32"),
        (_tensors(emb_params=torch.ones(0, 768)), "holds no vector"),
        (_tensors(emb_params=torch.ones(1, 768, dtype=torch.int64)), "int64 and not floating point"),
        (_tensors(emb_params=torch.ones(1, 2, 768)), "has shape"),
        (_tensors(a=torch.ones(1, 768), b=torch.ones(1, 768)), "holds 2 tensors"),
        (lambda f: f.write_bytes(pickle.dumps({"emb_params": [1.0]})), "PyTorch did not write"),
        (lambda f: f.write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
        (lambda f: f.write_text("<!doctype html><html></html>"), "web page"),
        (lambda f: f.write_bytes(b""), "is empty"),
        (lambda f: f.write_bytes(b"\xff" * 100), "no file in which embeddings come"),
        (lambda f: f.write_bytes((1 << 40).to_bytes(8, "little") + b"{}"), "announces a header"),
        (lambda f: f.write_bytes((100).to_bytes(8, "little") + b"{}"), "cut off"),
        (lambda f: f.write_bytes((4).to_bytes(8, "little") + b"{1}}"), "broken safetensors header"),
        (lambda f: f.write_bytes((2).to_bytes(8, "little") + b"{}"), "holds no tensor"),
        (_cut, "cut off"),
        (lambda f: f.mkdir(), "is a folder"),
    ],
)
def test_what_is_refused_is_said(tmp_path: Path, write: Callable[[Path], object], sentence: str) -> None:
    file = tmp_path / "bad.safetensors"
    write(file)
    with pytest.raises(ValueError, match=sentence) as caught:
        load_embedding(file, SD1)
    assert str(caught.value).startswith("bad.safetensors")
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_file_too_large_or_absent(tmp_path: Path) -> None:
    file = tmp_path / "big.safetensors"
    with file.open("wb") as handle:
        handle.truncate((4 << 30) + 1)  # takes no room on the disk
    with pytest.raises(ValueError, match="4 GiB"):
        load_embedding(file, SD1)
    with pytest.raises(FileNotFoundError, match="There is no file none"):
        load_embedding(tmp_path / "none.safetensors", SD1)


def test_an_existing_file_is_never_replaced_unasked(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_embedding(word(), file)
    old = file.read_bytes()
    with pytest.raises(FileExistsError, match="exists already"):
        save_embedding(word(count=1), file)
    assert file.read_bytes() == old
    save_embedding(word(count=1), file, overwrite=True)
    assert load_embedding(file, SD1).num_vectors == 1
    assert [f.name for f in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool) -> None:
    file = tmp_path / "a.safetensors"
    if overwrite:
        save_embedding(word(), file)
    before = {f: f.read_bytes() for f in tmp_path.iterdir()}

    def full(path: Path, data: bytes, synced: bool) -> None:
        path.write_bytes(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "_write", full)
    with pytest.raises(OSError, match="the disk is full"):
        save_embedding(word(count=1), file, overwrite=overwrite)
    assert {f: f.read_bytes() for f in tmp_path.iterdir()} == before


def test_a_disk_without_links_still_protects_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    file = tmp_path / "a.safetensors"
    save_embedding(word(), file)
    assert load_embedding(file, SD1).num_vectors == 2
    with pytest.raises(FileExistsError):
        save_embedding(word(), file)
    with pytest.raises(FileExistsError):  # a file that appeared after the first look
        atomic._put_into_place(file, file)
    assert [f.name for f in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="POSIX permissions")
def test_mode_follows_the_umask_and_a_read_only_folder_is_said(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        save_embedding(word(), tmp_path / "a.safetensors")
    finally:
        os.umask(old)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o640
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="could not be written"):
        save_embedding(word(), tmp_path / "file" / "a.safetensors")
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(OSError, match="not allowed"):
            save_embedding(word(), tmp_path / "b.safetensors")


def test_what_cannot_be_saved_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must end in"):
        save_embedding(word(), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="shorten it"):
        save_embedding(word(metadata={"note": "x" * (1 << 20)}), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_version_is_the_one_that_the_registry_reads() -> None:
    project = Path(__file__).resolve().parents[3] / "pyproject.toml"
    assert f'\nversion = "{VERSION}"' in project.read_text("utf-8")


def test_the_record_of_a_long_run_stays_small() -> None:
    rows = {"clip_l": torch.zeros(1, 4)}
    record = TrainRecord("S*", dict.fromkeys(range(5001), rows), [0.123456789] * 5000, {0: torch.ones(16)})
    text = training_metadata(TrainConfig(), record, "demo", "ab", 4)["textual_inversion"]
    content = json.loads(text)
    assert content["steps"] == 5000
    assert content["returned_steps"] == [2501, 5000]
    assert content["settings"]["seed"] == 0
    assert content["versions"] == {"textual_inversion": VERSION, "torch": torch.__version__}
    assert len(content["losses"]) <= 500
    assert len(text) < 20_000
