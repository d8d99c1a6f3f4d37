"""A fake host: enough of ComfyUI for the nodes to be imported and to declare themselves. It computes nothing."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

# The toy backend, for runs on disk; its tests put it on the path in the same way.
sys.path.append(str(Path(__file__).resolve().parents[1] / "engine"))


class FakeModule(ModuleType):
    """Any name that is asked for is an empty class."""

    __path__: list[str] = []  # noqa: RUF012 - what makes it a package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (), {})
        setattr(self, name, made)
        return made


class Socket:
    """An input or output: its id and everything it was declared with."""

    def __init__(self, id: str | None = None, **options: Any) -> None:
        self.id, self.options = id, options


class FakeSchema:
    def __init__(self, **options: Any) -> None:
        vars(self).update(options)


class FakeIO(FakeModule):
    ComfyNode = type("ComfyNode", (), {})
    Schema = FakeSchema
    Hidden = SimpleNamespace(extra_pnginfo="EXTRA_PNGINFO")
    NumberDisplay = SimpleNamespace(slider="slider")
    NodeOutput = type("NodeOutput", (), {"__init__": lambda self, *args, ui=None: vars(self).update(args=args, ui=ui)})

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(Input=Socket, Output=Socket, kind=name)

    def Custom(self, name: str) -> Any:  # noqa: N802 - the host's name
        return SimpleNamespace(Input=Socket, Output=Socket, kind=name)


class _FakeHostFinder:
    """Serves every module of the host that is not there."""

    packages = ("comfy", "comfy_api", "comfy_execution", "folder_paths")

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".")[0] in self.packages:
            return importlib.util.spec_from_loader(name, self)
        return None

    def create_module(self, spec: Any) -> ModuleType:
        module = FakeModule(spec.name)
        if spec.name == "comfy_api.latest":
            module.io, module.ui = FakeIO("io"), FakeModule("ui")
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


@pytest.fixture
def fake_host(monkeypatch, tmp_path):
    """Modules of a host that is not there. Everything imported meanwhile is forgotten afterwards."""
    before = set(sys.modules)
    finder = _FakeHostFinder()
    sys.meta_path.insert(0, finder)
    folders = importlib.import_module("folder_paths")
    base = tmp_path / "embeddings"
    base.mkdir()
    folders.get_folder_paths = lambda name: [str(base)]
    folders.get_filename_list = lambda name: sorted(str(p.relative_to(base)) for p in base.rglob("*") if p.is_file())
    folders.get_full_path = lambda name, file: str(base / file) if (base / file).is_file() else None
    folders.get_output_directory = lambda: str(tmp_path / "output")
    folders.get_temp_directory = lambda: str(tmp_path / "temp")
    yield SimpleNamespace(embeddings=base, output=tmp_path / "output")
    sys.meta_path.remove(finder)
    for name in set(sys.modules) - before:
        if name.split(".")[0] in finder.packages or name.startswith("ti_plugin.nodes"):
            del sys.modules[name]


@pytest.fixture
def nodes(fake_host):
    """The pack's `nodes` package over the fake host."""
    return importlib.import_module("ti_plugin.nodes")
