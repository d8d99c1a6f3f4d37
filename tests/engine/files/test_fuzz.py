"""A short run of the fuzzer with a fixed seed, and pickles invented from instructions that are all allowed."""

from __future__ import annotations

from pathlib import Path

import fuzz
import pytest
from file_bytes import name, tensor, text, torch_legacy, torch_zip, whole
from hypothesis import given, settings
from hypothesis import strategies as st

from ti_engine.files.containers.container import Container, read_container

MUTATIONS = 100
_TARGETS = fuzz.targets()


@pytest.mark.parametrize("container", _TARGETS)
def test_damaged_files_are_read_or_refused(tmp_path: Path, container: str) -> None:
    outcome = fuzz.fuzz(_TARGETS[container], MUTATIONS, 0, tmp_path / "fuzzed.pt")
    assert outcome.read > 0  # else the mutations would never get past the first check
    assert outcome.refused > 0


def test_a_reader_that_breaks_its_promise_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(file: Path) -> None:
        raise KeyError(file)

    monkeypatch.setattr(fuzz, "read_embedding_file", careless)
    with pytest.raises(AssertionError, match="mutation 0 raised KeyError"):
        fuzz.fuzz(_TARGETS["zip"], 1, 0, tmp_path / "fuzzed.pt")


_INSTRUCTIONS = [bytes([code]) for code in b"N()}]tseuaQRb\x81\x85\x86\x87\x88\x89\x8f\x90\x93\x94"]
_INSTRUCTIONS += [text("storage"), text("a"), text("_parameters"), whole(0), whole(-1), whole(3), b"q\x00", b"h\x00"]
_INSTRUCTIONS += [
    name("torch._utils", "_rebuild_tensor_v2"),
    name("torch._utils", "_rebuild_tensor_v3"),
    name("torch._utils", "_rebuild_parameter"),
    name("torch._tensor", "_rebuild_from_type_v2"),
    name("torch.nn.modules.container", "ParameterDict") + b")\x81",
    name("collections", "OrderedDict") + b")R",
    name("builtins", "set"),
    name("torch", "FloatStorage"),
    name("torch", "device"),
    name("numpy", "dtype"),
    name("numpy.core.multiarray", "scalar"),
    name("_codecs", "encode") + text("12345678") + text("latin1") + b"\x86R",
    b"C\x0812345678",
    text("f8"),
    name("torch", "float8_e5m2"),
    tensor(),
]


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(_INSTRUCTIONS), max_size=30), st.booleans())
def test_invented_pickles_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, instructions: list[bytes], legacy: bool
) -> None:
    pickle = b"\x80\x02" + b"".join(instructions) + b"."
    file = tmp_path_factory.getbasetemp() / "invented.pt"
    file.write_bytes((torch_legacy if legacy else torch_zip)(pickle, {"0": bytes(24)}))
    try:
        read = read_container(file)
    except ValueError as error:
        assert str(error).startswith("invented.pt ")
    else:
        assert isinstance(read, Container)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(
        [b"", b"PK\x03\x04", b"\x80\x02", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\0\0\0WEBP", b"\x10" + bytes(7) + b"{"]
    ),
    st.binary(max_size=200),
)
def test_invented_files_are_refused(tmp_path_factory: pytest.TempPathFactory, magic: bytes, rest: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "invented.pt"
    file.write_bytes(magic + rest)
    with pytest.raises(ValueError, match=r"^invented\.pt "):
        read_container(file)
