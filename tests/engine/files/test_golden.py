"""Real files by other programs. What they hold is read here out of their raw bytes, never by the engine.

Norms and hashes in the table were computed from these bytes once, with NumPy alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from ti_engine.files import load_embedding, read_embedding_file
from ti_engine.word.inspection import describe

FOLDER = Path(__file__).resolve().parents[3].parent / "shared" / "embeddings"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the real files are not there: ../shared/{FOLDER.name}")

Rows = np.ndarray


def header(data: bytes) -> dict:
    return json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])


def safetensors(key: str) -> Callable[[Path], Rows]:
    """The float32 tensor `key`: where the JSON header says, counted from the header's end."""

    def read(file: Path) -> Rows:
        data = file.read_bytes()
        entry = header(data)[key]
        begin, end = (8 + struct.unpack("<Q", data[:8])[0] + offset for offset in entry["data_offsets"])
        return np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])

    return read


def zipped(member: str, width: int, bfloat16: bool = False) -> Callable[[Path], Rows]:
    """A storage of a torch zip: raw numbers. bfloat16 is the upper half of a float32."""

    def read(file: Path) -> Rows:
        raw = zipfile.ZipFile(file).read(member)
        numbers = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4") if bfloat16 else np.frombuffer(raw, "<f4")
        return numbers.reshape(-1, width)

    return read


def png_text(file: Path) -> Rows:
    """The chunk tEXt `sd-ti-embedding`: base64 of JSON with the numbers as nested lists."""
    data, position = file.read_bytes(), 8
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        key, _, text = data[position + 8 : position + 8 + length].partition(b"\0")
        if (kind, key) == (b"tEXt", b"sd-ti-embedding"):
            return np.array(json.loads(base64.b64decode(text))["string_to_param"]["*"]["TORCHTENSOR"], "<f4")
        position += 12 + length
    raise AssertionError("no such chunk")


@dataclass
class Golden:
    name: str | None
    vectors: dict[str, Callable[[Path], Rows]]
    norms: dict[str, list[float]]  # of the first vectors
    sha256: dict[str, str]  # first eight digits
    metadata: dict[str, str] = field(default_factory=dict)
    dtype: str = "float32"


GOLDEN = {
    "a1111_test_embedding.png": Golden(
        None,
        {"clip_l": png_text},
        {"clip_l": [1.2681, 1.1140, 1.0474, 1.1659, 1.2999, 1.3047, 1.3764, 1.3130]},
        {"clip_l": "76df5d44"},
        {"name": "rick", "step": "60"},
    ),
    "fastai_diffusion-nbs_learned_embeds.bin": Golden(
        "<birb-style>", {"clip_l": zipped("archive/data/0", 768)}, {"clip_l": [3.0136]}, {"clip_l": "5af512a0"}
    ),
    "fgjd4_EasyNegativeV2.safetensors": Golden(
        None, {"clip_l": safetensors("emb_params")}, {"clip_l": [0.3633, 0.3698, 0.3762]}, {"clip_l": "139d8d1f"}
    ),
    "invokeai_test_embedding.safetensors": Golden(
        None,
        {"clip_l": safetensors("emb_params")},
        {"clip_l": [0.3946, 0.3496, 0.3916, 0.3676, 0.3946]},
        {"clip_l": "1a59af65"},
    ),
    "mayaru_bad-artist.pt": Golden(
        None,
        {"clip_l": zipped("archive/data/0", 768)},
        {"clip_l": [5.5249, 5.3330]},
        {"clip_l": "624467d9"},
        {"name": "bad-artist", "step": "1875", "sd_checkpoint": "7ab762a7", "sd_checkpoint_name": "blossom-extract"},
    ),
    "mayaru_bad_prompt_version2.pt": Golden(
        None,
        {"clip_l": zipped("archive/data/0", 768)},
        {"clip_l": [12.6559, 13.5775, 15.1614, 12.4931, 10.3740, 14.4306, 14.4876, 12.2155]},
        {"clip_l": "93fdbf9b"},
        {
            "name": "bad_prompt_version2",
            "step": "12000",
            "sd_checkpoint": "74906b9a",
            "sd_checkpoint_name": "Novel50WD50",
        },
    ),
    "ossroettger_XL_myPuppet768.pt": Golden(
        None,
        {
            "clip_l": zipped("myPuppet768/data/0", 768, bfloat16=True),
            "clip_g": zipped("myPuppet768/data/1", 1280, bfloat16=True),
        },
        {"clip_l": [0.4277], "clip_g": [0.5650]},
        {"clip_l": "f339f626", "clip_g": "ca7a0ee1"},
        dtype="bfloat16",
    ),
    "ttekcor_learned_embeds.safetensors": Golden(
        "<detail-schemas>",
        {"clip_l": safetensors("<detail-schemas>")},
        {"clip_l": [2.7491]},
        {"clip_l": "9f63dfcd"},
        {"format": "pt"},
    ),
}


def test_the_table_has_every_file() -> None:
    assert {file.name for file in FOLDER.iterdir()} == set(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_real_file_is_read_as_its_bytes_say(name: str) -> None:
    golden, file = GOLDEN[name], FOLDER / name
    raw = {key: read(file) for key, read in golden.vectors.items()}
    content = describe(read_embedding_file(file))
    assert content["file"] == name
    (word,) = content["words"]
    assert word["name"] == golden.name
    assert word["metadata"] == golden.metadata
    assert list(word["vectors"]) == list(raw)
    for key, told in word["vectors"].items():
        assert told["shape"] == list(raw[key].shape)
        assert told["dtype"] == golden.dtype
        assert told["norms"] == pytest.approx(np.linalg.norm(raw[key].astype("f8"), axis=1).tolist(), abs=2e-6)
        assert told["norms"][: len(golden.norms[key])] == pytest.approx(golden.norms[key], abs=5e-5)
        assert told["sha256_f32"] == hashlib.sha256(raw[key].tobytes()).hexdigest()
        assert told["sha256_f32"].startswith(golden.sha256[key])
    embedding = load_embedding(file)
    assert all(np.array_equal(rows.numpy(), raw[key]) for key, rows in embedding.vectors.items())
    assert embedding.placeholder == (golden.name or file.stem)


def test_repeated_rows_of_a_real_file_stay() -> None:
    content = describe(read_embedding_file(FOLDER / "invokeai_test_embedding.safetensors"))
    assert content["words"][0]["vectors"]["clip_l"]["shape"] == [5, 768]
    assert "Vectors 1 and 5 of clip_l are the same." in content["warnings"]
