"""Files that anybody can put where a run is looked for: a sentence, and never more."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from kept_runs import go_on, wide
from safetensors.torch import save
from toy import toy_config

from ti_engine.data.contact_sheet import png_bytes
from ti_engine.run.folder import RunFolder
from ti_engine.run.sealed_file import _digest, seal, unseal
from ti_engine.run.store import RunStore

CONFIG = toy_config(num_vectors=8, evaluate_every=7)
DEEP = "[" * 100_000
NO_COUNT: list[Any] = [-1, 1.0, 10**30, "1", None, True, [1], {}, float("inf")]
NO_TEXT: list[Any] = [1, [], {}, True]
BAD_FACTS = {
    "step": [*NO_COUNT, 29, 31],
    "chunks": [*NO_COUNT, 0, 2, 2**30],
    "finished": [0, 1, None, "yes"],
    "seconds": [-1, "1", None, True, [1], float("nan"), float("inf"), 10**400],
    "notes": [[], [["a", "b"]], {"a": 1}, "x", None],
    "loss_scale": [1, [], [1, 1], [1, 1, 1, 1], ["1", 1, 1], [None, 1, 1], [float("nan"), 1, 1], {"a": 1}],
    "parts": [*NO_COUNT, 0],
    "cool_down": [1, [1], [1, 2, 3], ["1", "2"], [1.0, 2.0], "12", {"1": 2}],
    "placeholder": [*NO_TEXT, None],
    "stopped": NO_TEXT,
    "record_parts": [*NO_COUNT, 0],
    "ran_out_of_memory": [value for value in NO_COUNT if value is not None],
    "nondeterministic": ["x", [1], None, {"a": "b"}],
    "last_good": [31, *(value for value in NO_COUNT if value is not None)],
    "warnings": ["x", [1], None],
}
ODD = [torch.zeros(3), torch.zeros(3, 3), torch.zeros(()), torch.zeros(0), torch.zeros(2, dtype=torch.complex64)]
ODD += [torch.zeros(31, 8, 400, dtype=kind) for kind in (torch.float16, torch.bool, torch.float8_e5m2, torch.uint16)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    store = RunStore(tmp_path_factory.mktemp("runs"))
    go_on(store, CONFIG, backend=wide())
    return store


@pytest.fixture
def folder(store: RunStore, tmp_path: Path):
    """A finished run, which is whole again afterwards."""
    (summary,) = store.runs()
    shutil.copytree(summary.folder.path, tmp_path / "kept")
    yield summary.folder
    shutil.rmtree(summary.folder.path)
    shutil.copytree(tmp_path / "kept", summary.folder.path)


def refused(folder: RunFolder) -> str:
    """The sentence with which a run is not read."""
    with pytest.raises(ValueError) as caught:
        folder.read()
    assert str(caught.value).endswith(".") and len(str(caught.value)) < 200
    return str(caught.value)


def put(folder: RunFolder, tensors: dict[str, torch.Tensor], facts: Any) -> None:
    """As `seal` would, which refuses NaN."""
    data = seal(tensors, {"x": 1})
    length = struct.unpack("<Q", data[:8])[0]
    text = json.dumps(facts)
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] |= {"facts": text, "sha256": _digest(tensors, text)}
    head = json.dumps(header).encode()
    folder.state_file.write_bytes(struct.pack("<Q", len(head)) + head + data[8 + length :])


@pytest.mark.parametrize("name", BAD_FACTS)
def test_facts_of_another_kind_are_refused(store: RunStore, folder: RunFolder, name: str):
    tensors, facts = unseal(folder.state_file)
    for value in BAD_FACTS[name]:
        put(folder, tensors, facts | {name: value})
        refused(folder)
        for summary in store.runs():  # lists only what it can stand by
            assert isinstance(summary.facts["finished"], bool) and summary.facts["step"] >= 0
        store.shrink(1e12)
    put(folder, tensors, {key: value for key, value in facts.items() if key != name})
    refused(folder)
    put(folder, tensors, facts)
    assert folder.read() is not None


@pytest.mark.parametrize("facts", [[], None, 1, "x", [[]], {}])
def test_facts_that_are_no_facts_are_refused(store: RunStore, folder: RunFolder, facts: Any):
    put(folder, unseal(folder.state_file)[0], facts)
    refused(folder)
    assert not store.runs()


@pytest.mark.parametrize(
    "odd",
    [
        {"norms": {"clip_l": 10**200}},
        {"norms": {"clip_l": 1e299}},
        {"norms": {"clip_l": 0.0}},
        {"norms": {"clip_g": 1.0}},
        {"norms": [1.0]},
        {"every": 0},
        {"every": 6, "finished": False},
        {"every": 6, "last_good": 1},
        {"every": 6},
    ],
)
def test_facts_that_no_run_has_are_refused(folder: RunFolder, odd: dict[str, Any]):
    tensors, facts = unseal(folder.state_file)
    put(folder, tensors, facts | odd)
    refused(folder)


def test_a_run_of_an_older_version_is_read(folder: RunFolder):
    tensors, facts = unseal(folder.state_file)
    before = folder.saved().record
    older = {name: value for name, value in facts.items() if name not in ("every", "norms")}
    put(folder, {name: tensor for name, tensor in tensors.items() if name != "tail.kept"}, older)
    after = folder.saved().record
    assert after.losses == before.losses and after.trajectory.keys() == before.trajectory.keys()


def test_tensors_of_another_kind_are_refused(folder: RunFolder):
    tensors, facts = unseal(folder.state_file)
    for name in tensors:
        for odd in ODD:
            if tensors[name].shape != odd.shape or tensors[name].dtype != odd.dtype:
                put(folder, tensors | {name: odd}, facts)
                refused(folder)
    for name in (
        "optimizer.9.step",
        "optimizer.x.exp_avg",
        "optimizer.0.exp_inf",
        "reached.clip_g",
        "candidate.1",
        "candidate.0.99999999999999999999999999",
        "average.clip_l",
    ):
        put(folder, tensors | {name: torch.zeros(())}, facts)
        refused(folder)
    for name in ("generator", "vectors.clip_l", "tail.losses", "tail.vectors.clip_l"):
        put(folder, {other: tensor for other, tensor in tensors.items() if other != name}, facts)
        refused(folder)


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: f"{odd.dtype} {tuple(odd.shape)}")
def test_a_chunk_of_another_kind_is_refused(folder: RunFolder, odd: torch.Tensor):
    tensors, _ = unseal(folder.chunk_file(0))
    for name in tensors:
        folder.chunk_file(0).write_bytes(seal(tensors | {name: odd}, {}))
        refused(folder)


def test_a_chunk_of_a_run_with_other_vectors_is_refused(folder: RunFolder):
    tensors, _ = unseal(folder.chunk_file(0))
    narrow = {name: rows[..., :5] if rows.ndim == 3 else rows for name, rows in tensors.items()}
    folder.chunk_file(0).write_bytes(seal(narrow, {}))
    assert "incomplete" in refused(folder)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"format": "pt"},
        {"format": "textual-inversion run"},
        {"format": "textual-inversion run", "version": "1"},
        {"format": "textual-inversion run", "version": "1", "facts": DEEP},
        {"format": "textual-inversion run", "version": "1", "facts": "{", "sha256": "x"},
        {"format": "textual-inversion run", "version": "9" * 10_000, "facts": "{}"},
    ],
)
def test_metadata_of_another_kind_are_refused(store: RunStore, folder: RunFolder, metadata: dict[str, str]):
    folder.state_file.write_bytes(save({"x": torch.zeros(1)}, metadata))
    refused(folder)
    assert not store.runs()


@pytest.mark.parametrize(
    "header",
    [
        DEEP,
        "[]",
        "1",
        '{"__metadata__": []}',
        '{"__metadata__": {"format": "textual-inversion run", "version": "1", "facts": {"step": 1}}}',
        '{"__metadata__": {"format": "textual-inversion run", "version": 1, "facts": "{}"}}',
        '{"x": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}, '
        '"__metadata__": {"format": "textual-inversion run", "version": "1", "facts": "{}"}}',
    ],
)
@pytest.mark.parametrize("length", [None, 0, 2**63])
def test_headers_of_another_kind_are_refused(store: RunStore, folder: RunFolder, header: str, length: int | None):
    text = header.encode()
    folder.state_file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + b"\0")
    refused(folder)
    assert not store.runs()


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", DEEP.encode(), b'"x"', b"NaN"])
def test_a_damaged_config_takes_a_run_from_the_list_and_is_written_anew(
    store: RunStore, folder: RunFolder, text: bytes
):
    folder.config_file.write_bytes(text)
    with pytest.raises(ValueError, match="damaged"):
        folder.config()
    assert not store.runs()
    go_on(store, CONFIG, backend=wide())
    assert folder.config()["settings"] == CONFIG.to_dict()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("settings", []),
        ("settings", {"steps": "1"}),
        ("settings", {"steps": 10**30}),
        ("settings", {"resolution": None}),
        ("pictures", "4"),
        ("pictures", -1),
        ("captions", "a"),
        ("captions", [1]),
        ("picture_names", [None]),
        ("model", None),
        ("began", 5),
        ("parent", []),
        ("started_from", "x"),
        ("word", 1),
    ],
)
def test_a_config_of_another_kind_is_damaged(store: RunStore, folder: RunFolder, name: str, value: object):
    folder.config_file.write_text(json.dumps(folder.config() | {name: value}))
    with pytest.raises(ValueError, match="damaged"):
        folder.config()
    assert not store.runs()


@pytest.mark.parametrize("cut", [0, 8, 20, 60, 100, 200])
def test_pictures_that_cannot_be_read_are_left_out(folder: RunFolder, cut: int):
    good = png_bytes(torch.rand(3, 8, 8))
    previews = folder.path / "previews"
    previews.mkdir(exist_ok=True)
    (previews / "0000001.png").write_bytes(good)
    (previews / "0000002.png").write_bytes(good[:cut])
    for place in range(8, len(good)):
        (previews / "0000003.png").write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        assert 1 in dict(folder.previews())
    (previews / "0000004.png").mkdir(exist_ok=True)
    (previews / "mine.png").write_bytes(good)
    assert {1} <= set(dict(folder.previews())) <= {1, 3}


def test_the_files_of_previews_are_listed_by_step_and_the_result_comes_last(folder: RunFolder):
    previews = folder.path / "previews"
    previews.mkdir(exist_ok=True)
    for name in ("result.png", "0000010.png", "0000002.png", "mine.png", "00002.png", "result.jpg", "0000003"):
        (previews / name).touch()
    assert folder.preview_files() == [
        (2, previews / "0000002.png"),
        (10, previews / "0000010.png"),
        (None, previews / "result.png"),
    ]
