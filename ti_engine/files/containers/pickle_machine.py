"""Reads a pickle as what it is, a list of instructions for a stack, without ever unpickling.

A pickle asks for functions by name and has them called. This machine only takes down what they would be called with
(pickle_names.py), and every instruction that an embedding does without ends the reading. The instructions are those of
CPython's Lib/pickletools.py.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..limits import MAX_OPCODES
from ..refused import Refused
from .pickle_names import BROKEN, PARAMETER_DICT, Name, NumberType, ParameterDict, Storage, call, forbidden, known_name

_NEWEST_PROTOCOL = 5
_WIDEST = 1 << 63
_MARK = object()


@dataclass(frozen=True)
class Pickle:
    """content: dict (keys: str, int), list, tuple, str, int, float, bool, None and those of pickle_names.py.

    It may share parts and contain itself. storages: key -> each that is referred to. end: where the next pickle begins.
    """

    content: Any
    storages: dict[str, Storage]
    end: int


def read_pickle_at(data: bytes, position: int = 0) -> Pickle:
    """The pickle that begins at `position`. Raises Refused for one that does more than describe dicts of tensors."""
    machine = _Machine(data, position)
    try:
        return Pickle(machine.run(), machine.storages, machine.position)
    except Refused:
        raise
    except (LookupError, TypeError, ValueError, struct.error) as error:
        raise Refused(BROKEN) from error


class _Machine:
    """The stack of a pickle that is being read, its memo, and how far it has been read."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> Any:
        for _ in range(MAX_OPCODES):
            code = self.take(1)
            if code == b".":
                (result,) = self.pop(len(self.stack))
                return result
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise _unknown(code)
            instruction(self)
        raise Refused(f"is a pickle of more than {MAX_OPCODES:,} instructions; is it a model?")

    def take(self, count: int) -> bytes:
        piece = self.data[self.position : self.position + count]
        if len(piece) != count:
            raise Refused(BROKEN)
        self.position += count
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def push(self, item: Any) -> None:
        self.stack.append(item)

    def top(self, kind: type = object) -> Any:
        top = self.stack[-1]
        if top is _MARK or not isinstance(top, kind):
            raise Refused(BROKEN)
        return top

    def pop(self, count: int) -> list[Any]:
        at = len(self.stack) - count
        if at < 0 or any(item is _MARK for item in self.stack[at:]):
            raise Refused(BROKEN)
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def pop_to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:  # without any mark it ends in an IndexError
            at -= 1
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def remember(self, place: int) -> None:
        if place > MAX_OPCODES:
            raise Refused(BROKEN)
        self.memo[place] = self.top()

    def long(self) -> None:
        self.push(int.from_bytes(self.take(self.number("<B")), "little", signed=True))

    def text(self, form: str) -> None:
        self.push(self.take(self.number(form)).decode("utf-8"))

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int)):  # hashing a tuple of tuples of tuples can take for ever
                raise forbidden("has a dict whose keys are no text and no numbers")
            if isinstance(key, int) and not -_WIDEST <= key < _WIDEST:  # of longer ones any number have the same hash
                raise Refused("has a dict whose keys are numbers of more than 64 bits, which no embedding has")
            target[key] = value

    def frame(self) -> None:
        if self.number("<Q") > len(self.data) - self.position:
            raise Refused(BROKEN)

    def protocol(self) -> None:
        if self.number("<B") > _NEWEST_PROTOCOL:
            raise Refused(BROKEN)

    def name_in_lines(self) -> None:
        end = self.data.index(b"\n", self.data.index(b"\n", self.position) + 1)
        module, name = self.take(end - self.position).decode("utf-8").split("\n")
        self.take(1)
        self.push(known_name(module, name))

    def name_on_stack(self) -> None:
        module, name = self.pop(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refused(BROKEN)
        self.push(known_name(module, name))

    def reduce(self) -> None:
        function, arguments = self.pop(2)
        self.push(call(function, arguments))

    def new_object(self) -> None:
        function, arguments = self.pop(2)
        if function != Name(PARAMETER_DICT) or arguments != ():
            raise forbidden("makes an object")
        self.push(ParameterDict())

    def build(self) -> None:
        (state,) = self.pop(1)
        target = self.top()
        if isinstance(target, ParameterDict) and target.state is None:
            target.state = state
        elif isinstance(target, NumberType):
            target.check_state(state)
        elif not isinstance(target, dict):  # attributes of an OrderedDict, as state dicts have them, are no content
            raise forbidden("sets the state of an object")

    def persistent(self) -> None:
        (identity,) = self.pop(1)
        match identity:
            # PyTorch before 0.4 could cut a storage out of another, and says here (now always None) where.
            case ("storage", Name(kind), str(key), str(), int(count), *view) if view in ([], [None]):
                if kind.endswith("Storage") and count >= 0:
                    storage = Storage(kind.rpartition(".")[2], key, count)
                    if self.storages.setdefault(key, storage) == storage:
                        return self.push(storage)
            case ("module", Name() as name, *_):  # before 1.6 the source code of a class stands beside its name
                return self.push(name)
        raise forbidden("refers to something outside of itself that is no tensor's numbers")


_INSTRUCTIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _Machine.protocol,
    b"\x95": _Machine.frame,
    b"N": lambda machine: machine.push(None),
    b"\x88": lambda machine: machine.push(True),
    b"\x89": lambda machine: machine.push(False),
    b"K": lambda machine: machine.push(machine.number("<B")),
    b"M": lambda machine: machine.push(machine.number("<H")),
    b"J": lambda machine: machine.push(machine.number("<i")),
    b"\x8a": _Machine.long,
    b"G": lambda machine: machine.push(machine.number(">d")),
    b"C": lambda machine: machine.push(machine.take(machine.number("<B"))),
    b"\x8c": lambda machine: machine.text("<B"),
    b"X": lambda machine: machine.text("<I"),
    b"(": lambda machine: machine.push(_MARK),
    b")": lambda machine: machine.push(()),
    b"\x85": lambda machine: machine.push(tuple(machine.pop(1))),
    b"\x86": lambda machine: machine.push(tuple(machine.pop(2))),
    b"\x87": lambda machine: machine.push(tuple(machine.pop(3))),
    b"t": lambda machine: machine.push(tuple(machine.pop_to_mark())),
    b"]": lambda machine: machine.push([]),
    b"a": lambda machine: machine.append(machine.pop(1)),
    b"e": lambda machine: machine.append(machine.pop_to_mark()),
    b"\x8f": lambda machine: machine.push([]),  # a set
    b"\x90": lambda machine: machine.append(machine.pop_to_mark()),
    b"}": lambda machine: machine.push({}),
    b"s": lambda machine: machine.set_items(machine.pop(2)),
    b"u": lambda machine: machine.set_items(machine.pop_to_mark()),
    b"q": lambda machine: machine.remember(machine.number("<B")),
    b"r": lambda machine: machine.remember(machine.number("<I")),
    b"\x94": lambda machine: machine.remember(len(machine.memo)),
    b"h": lambda machine: machine.push(machine.memo[machine.number("<B")]),
    b"j": lambda machine: machine.push(machine.memo[machine.number("<I")]),
    b"c": _Machine.name_in_lines,
    b"\x93": _Machine.name_on_stack,
    b"Q": _Machine.persistent,
    b"R": _Machine.reduce,
    b"\x81": _Machine.new_object,
    b"b": _Machine.build,
}


def _unknown(code: bytes) -> Refused:
    names = {known.code.encode("latin-1"): known.name for known in pickletools.opcodes}
    return forbidden(f"uses the pickle instruction {names[code]}") if code in names else Refused(BROKEN)
