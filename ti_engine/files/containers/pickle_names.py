"""The names that PyTorch's pickles refer to, and what each stands for here: a description, and never Python's own.

Nothing is imported and nothing called that a file names. Sources: torch/_utils.py, torch/_tensor.py,
torch/storage.py; for a number of NumPy's among the settings `gentype_reduce` and `arraydescr_reduce` of NumPy.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..refused import Refused

BROKEN = "is a broken pickle; download it again"
PARAMETER_DICT = "torch.nn.modules.container.ParameterDict"
_MAX_ARGUMENTS = 8
_MAX_SCALAR = 32  # letters; a text is given again and again at no cost, and each copy of it would cost
_SCALARS = {
    "f8": "<d", "f4": "<f", "f2": "<e", "b1": "<?",
    "i8": "<q", "i4": "<i", "i2": "<h", "i1": "<b", "u8": "<Q", "u4": "<I", "u2": "<H", "u1": "<B",
}  # fmt: skip


@dataclass(frozen=True)
class Name:
    """Something in Python that the file refers to, by name only."""

    text: str


@dataclass(frozen=True)
class Storage:
    """Numbers that lie elsewhere in the file; kind such as "FloatStorage", count in numbers (in bytes if untyped)."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """A view of a storage, unchecked: offset and stride in numbers. dtype: torch's name where the storage has none."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str | None = None


@dataclass
class ParameterDict:
    """torch.nn.ParameterDict, revived by filling in its state."""

    state: Any = None


@dataclass(frozen=True)
class NumberType:
    """A type of NumPy's for single numbers; form: that of the module struct."""

    form: str

    def check_state(self, state: Any) -> None:
        """Raises Refused for a state that says more than the order of the bytes of this computer."""
        match state:
            case (int(), "<" | "|", None, None, None, -1, -1, int()):
                return
        raise Refused("holds a number of a kind that no embedding has")


def forbidden(what: str) -> Refused:
    """The refusal of what would run code in Python's own unpickler."""
    return Refused(f"{what}, which no embedding needs; nothing in it was run, get the embedding as safetensors")


def _tensor(*arguments: Any) -> StoredTensor:
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(stride)):
            return StoredTensor(storage, offset, shape, stride)
    raise Refused(BROKEN)


def _tensor_2(*arguments: Any) -> StoredTensor:
    if len(arguments) > 6 and arguments[6]:
        raise Refused("holds a tensor that is marked as negated or conjugated, which no embedding is")
    return _tensor(*arguments[:4])


def _tensor_3(*arguments: Any) -> StoredTensor:
    made = _tensor_2(*arguments[:6], *arguments[7:8])
    if len(arguments) < 7 or not isinstance(arguments[6], Name):
        raise Refused(BROKEN)
    return StoredTensor(made.storage, made.offset, made.shape, made.stride, arguments[6].text.removeprefix("torch."))


def _tensor_from_type(function: Any, _type: Any, arguments: Any, _state: Any) -> StoredTensor:
    if function != Name("torch._utils._rebuild_tensor_v2"):
        raise forbidden("makes an object")
    return call(function, arguments)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _device(kind: Any, number: Any = None) -> str:
    if not isinstance(kind, str) or not (number is None or isinstance(number, int)):
        raise Refused(BROKEN)
    return kind if number is None else f"{kind}:{number}"


def _bytes(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1" or len(text) > _MAX_SCALAR:
        raise forbidden("holds bytes")
    return text.encode("latin1")


def _number_type(code: Any, *_: Any) -> NumberType:
    if not isinstance(code, str) or code not in _SCALARS:
        raise Refused("holds a number of a kind that no embedding has")
    return NumberType(_SCALARS[code])


def _number(kind: Any, data: Any) -> Any:
    if not isinstance(kind, NumberType) or not isinstance(data, bytes):
        raise Refused(BROKEN)
    return struct.unpack(kind.form, data)[0]


def _ordered_dict() -> dict[Any, Any]:
    return {}


def _same(items: Any) -> Any:
    return items


# Nothing here copies what it is given: a file may give the same long list ten thousand times.
_MEANINGS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_2,
    "torch._utils._rebuild_tensor_v3": _tensor_3,
    "torch._tensor._rebuild_from_type_v2": _tensor_from_type,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _same,
    "collections.OrderedDict": _ordered_dict,
    "builtins.set": _same,
    "__builtin__.set": _same,
    "torch.device": _device,
    "_codecs.encode": _bytes,
    "numpy.dtype": _number_type,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
}
_STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "Untyped")
_FLOATS = ("float64", "float32", "float16", "bfloat16")
_FLOATS_8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
NUMBER_FORMATS = frozenset(f"torch.{dtype}" for dtype in (*_FLOATS, *_FLOATS_8))
_INERT = (
    frozenset(  # allowed as arguments, never called
        [PARAMETER_DICT, "torch.Tensor", "torch.nn.parameter.Parameter"]
        + [f"{module}.{kind}Storage" for module in ("torch", "torch.cuda", "torch.storage") for kind in _STORAGES]
    )
    | NUMBER_FORMATS
)


def known_name(module: str, attribute: str) -> Name:
    """The name of something that embeddings refer to. Raises Refused for all else, whether or not it exists."""
    text = f"{module}.{attribute}"
    if text in _MEANINGS or text in _INERT:
        return Name(text)
    if module == "torch" and attribute.isalnum() and attribute.endswith("Storage"):
        raise Refused(f"holds numbers of a kind that no embedding has ({text})")
    raise forbidden(f"asks Python for {ascii(text[:80])[1:-1]}")


def call(function: Any, arguments: Any) -> Any:
    """What PyTorch would make by calling `function`, as a description."""
    if not isinstance(function, Name) or not isinstance(arguments, tuple) or function.text not in _MEANINGS:
        raise forbidden("calls something that is no function of PyTorch's")
    if len(arguments) > _MAX_ARGUMENTS:
        raise Refused(BROKEN)
    return _MEANINGS[function.text](*arguments)
