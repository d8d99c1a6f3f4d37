"""Only nodes/host may touch the host: the rest of the pack has to survive its changes."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOST_MODULES = {"comfy", "comfy_execution", "execution", "folder_paths", "node_helpers", "server"}


def imported(source: str) -> set[str]:
    """Top-level names of the modules that `source` imports absolutely."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("file", sorted((ROOT / "nodes").glob("*.py")), ids=lambda file: file.name)
def test_nodes_leave_the_host_to_nodes_host(file: Path):
    assert not imported(file.read_text("utf-8")) & HOST_MODULES


@pytest.mark.parametrize("file", sorted((ROOT / "ti_engine").rglob("*.py")), ids=lambda file: file.name)
def test_the_engine_does_not_know_the_host(file: Path):
    assert not imported(file.read_text("utf-8")) & (HOST_MODULES | {"comfy_api", "nodes"})


def test_imports_are_found():
    assert imported("import comfy.utils\nfrom server import PromptServer\nfrom .x import y") == {"comfy", "server"}
