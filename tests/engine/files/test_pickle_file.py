"""PyTorch's files: what torch.save writes, in every way that embeddings were saved, and nothing that fills memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from file_bytes import tensor, text, torch_legacy, torch_zip
from torch import Tensor
from torch.nn import Parameter, ParameterDict

from ti_engine.files.containers.container import read_container
from ti_engine.files.limits import MAX_LOADED

ROWS = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
KINDS = pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])


def through_a_file(folder: Path, content: Any, new: bool, protocol: int = 2) -> Any:
    torch.save(content, folder / "word.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    read = read_container(folder / "word.pt")
    assert read.kind == "pickle"
    return read.content


def without_classes(made: Any) -> Any:
    """Without tensors, so that it can be compared."""
    if isinstance(made, Tensor):
        return str(made.dtype), tuple(made.shape), made.double().flatten().tolist()
    if isinstance(made, dict):
        return {key: without_classes(part) for key, part in made.items()}
    return [without_classes(part) for part in made] if isinstance(made, (list, tuple)) else made


CONTENTS = {
    "A1111": {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": ROWS.clone().requires_grad_()},
        "name": "a\u732b b",
        "step": 1875,
        "sd_checkpoint": None,
        "sd_checkpoint_name": "x",
    },
    "diffusers": {"<Le Petit Prince-moon >": ROWS[0]},
    "notebook": {"emb": ROWS.bfloat16(), "emb2": ROWS[:, :4].bfloat16()},
    "snapshots": [{"emb": ROWS * i} for i in range(50)],
    "bare": ROWS.half(),
    "kohya": {"emb_params": ROWS.double()},
    "types": {"none": None, "true": True, "real": 1.5, "low": -5, "big": 1 << 40, "many": [1, 2], 7: "key"},
    "columns": {"a": ROWS.t(), "one": ROWS[:, 3], "step": ROWS.flatten()[1::3]},
    "nothing": {"a": torch.empty(0, 768)},
    "one number": {"a": torch.tensor(265)},
    "integers": {str(dtype): ROWS.to(dtype) for dtype in (torch.int64, torch.int32, torch.int16, torch.int8)},
    "8 bits": {str(dtype): ROWS.to(dtype) for dtype in (torch.float8_e4m3fn, torch.float8_e5m2)},
    "one storage": {"a": ROWS, "b": ROWS, "c": ROWS[1]},
}


@KINDS
@pytest.mark.parametrize("name", CONTENTS)
def test_what_torch_writes_comes_out(tmp_path: Path, name: str, new: bool) -> None:
    assert without_classes(through_a_file(tmp_path, CONTENTS[name], new)) == without_classes(CONTENTS[name])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(tmp_path: Path, protocol: int) -> None:
    for content in CONTENTS.values():
        assert without_classes(through_a_file(tmp_path, content, True, protocol)) == without_classes(content)


@KINDS
@pytest.mark.parametrize("protocol", [2, 4])
def test_modules_of_the_first_embeddings(tmp_path: Path, new: bool, protocol: int) -> None:
    """Two placeholders in a ParameterDict, as the original code saves them (and nothing else can read them)."""
    modules = ParameterDict({"*": Parameter(ROWS), "@": Parameter(ROWS[:1])})
    content = {"string_to_token": {"*": torch.tensor(265), "@": torch.tensor(31)}, "string_to_param": modules}
    read = through_a_file(tmp_path, content, new, protocol)
    assert type(read["string_to_param"]) is dict
    assert without_classes(read["string_to_param"]) == without_classes({"*": ROWS, "@": ROWS[:1]})
    assert read["string_to_token"]["@"].item() == 31


@KINDS
def test_everything_else_becomes_plain(tmp_path: Path, new: bool) -> None:
    marked = Parameter(ROWS.clone())
    marked.note = "x"  # type: ignore[attr-defined]
    noted = ROWS.clone()
    noted.note = "x"  # type: ignore[attr-defined]
    content = {"state": torch.nn.Linear(2, 2).state_dict(), "set": {1}, "size": ROWS.shape, "p": marked, "t": noted}
    read = through_a_file(tmp_path, content, new)
    assert type(read["state"]) is dict
    assert list(read["state"]) == ["weight", "bias"]
    assert (read["set"], read["size"]) == ([1], [2, 8])
    for tensor_read in (read["p"], read["t"], read["state"]["weight"]):
        assert type(tensor_read) is Tensor
        assert not tensor_read.requires_grad
        assert tensor_read.is_contiguous()


@KINDS
@pytest.mark.parametrize("protocol", [2, 4])
def test_numbers_of_numpy_beside_a_word(tmp_path: Path, new: bool, protocol: int) -> None:
    """Training scripts keep a mean loss or a step as NumPy gave it, and the number format, and the device."""
    kinds = (np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint8, np.bool_)
    content = {"emb": ROWS, **{kind.__name__: kind(1) for kind in kinds}, "loss": np.float64(0.1)}
    content |= {"device": torch.device("cuda:0"), "dtype": torch.float16, "on": torch.device("cpu")}
    content["mask"] = torch.tensor([True, False])
    read = through_a_file(tmp_path, content, new, protocol)
    assert torch.equal(read["emb"], ROWS) and read["mask"].tolist() == [True, False]
    assert [read[kind.__name__] for kind in kinds] == [1] * len(kinds)
    assert (read["loss"], read["device"], read["on"], read["dtype"]) == (0.1, "cuda:0", "cpu", "torch.float16")


@KINDS
def test_rows_over_and_over(tmp_path: Path, new: bool) -> None:
    read = through_a_file(tmp_path, {"a": ROWS[:1].expand(3, 8), "b": ROWS.flatten().unfold(0, 8, 4)}, new)
    assert torch.equal(read["a"], ROWS[:1].repeat(3, 1))
    assert torch.equal(read["b"], ROWS.flatten().unfold(0, 8, 4))


def test_storages_of_a_gpu_are_read_on_a_cpu(tmp_path: Path) -> None:
    for new in (True, False):
        pickle = b"\x80\x02}" + text("emb") + tensor().replace(text("cpu"), text("cuda:0")) + b"s."
        data = bytes(torch.arange(6).float().untyped_storage())
        (tmp_path / "word.pt").write_bytes((torch_zip if new else torch_legacy)(pickle, {"0": data}))
        assert read_container(tmp_path / "word.pt").content["emb"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_of_a_table_only_the_row_is_read(tmp_path: Path) -> None:
    """A row saved on the CPU brings its whole vocabulary along, which is more than is ever loaded."""
    table = torch.zeros(17_000, 768)
    table[16_000] = 1.5
    read = through_a_file(tmp_path, {"<cat>": table[16_000]}, True)
    assert (tmp_path / "word.pt").stat().st_size > MAX_LOADED
    assert read["<cat>"].tolist() == [1.5] * 768


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (torch.ones(1).expand(10_000, 10_000), "holds more than 48 MiB of tensors"),
        (torch.zeros(49 << 18), "holds more than 48 MiB of tensors; is it a model"),
        (torch.nn.Linear(2, 2), "asks Python for torch.nn.modules.linear.Linear, which no embedding needs"),
        (torch.ones(2, dtype=torch.complex64), r"holds numbers of a kind that no embedding has \(torch.ComplexFloat"),
        ({"a": b"bytes"}, "holds a name of Python's"),
        ({"a": b"bytes" * 20}, "holds bytes, which no embedding needs"),
        ({"a": np.zeros((2, 8), np.float32)}, r"asks Python for numpy\._?core\.multiarray\._reconstruct"),
        ({"a": np.array([None], object)[0:1].dtype}, "holds a number of a kind that no embedding has"),
        ({"a": np.complex64(1)}, "holds a number of a kind that no embedding has"),
        ({"step": 1 << 64}, "has a whole number of more than 64 bits"),
        ({(1, 2): ROWS}, "has a dict whose keys are no text and no numbers"),
        (Path("x"), "asks Python for pathlib"),
    ],
)
@KINDS
def test_what_is_refused_is_said(tmp_path: Path, content: Any, sentence: str, new: bool) -> None:
    with pytest.raises(ValueError, match=rf"^word\.pt {sentence}"):
        through_a_file(tmp_path, content, new)


def test_a_wrong_checksum_is_said(tmp_path: Path) -> None:
    torch.save({"emb": ROWS}, tmp_path / "word.pt")
    data = bytes(ROWS.untyped_storage())
    (tmp_path / "word.pt").write_bytes((tmp_path / "word.pt").read_bytes().replace(data, bytes(len(data))))
    with pytest.raises(ValueError, match="is damaged: a checksum"):
        read_container(tmp_path / "word.pt")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_program_is_refused(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "word.pt"))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="is a TorchScript program"):
        read_container(tmp_path / "word.pt")
