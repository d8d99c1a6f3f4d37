"""Nothing in the pack opens a pickle with Python's or torch's own machine."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "joblib", "marshal"}
SOURCES = [file for folder in ("ti_engine", "nodes") for file in sorted((ROOT / folder).rglob("*.py"))]


def unpickling(source: str) -> list[str]:
    """What in the source imports such a machine or calls torch's or numpy's."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = {name.name for name in node.names}
            if node.module.partition(".")[0] in MODULES or (node.module == "torch" and names & {"load", "jit", "hub"}):
                found.append(node.module)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            called = f"{node.value.id}.{node.attr}"
            found += [called] if called in {"torch.load", "torch.jit", "torch.hub", "np.load", "numpy.load"} else []
    return found


def test_no_pickle_is_opened():
    assert len(SOURCES) > 100
    assert {str(file): found for file in SOURCES if (found := unpickling(file.read_text("utf-8")))} == {}


@pytest.mark.parametrize(
    "source",
    ["import pickle", "import pickle as p", "from torch import load", "torch.load(f, weights_only=True)", "np.load(f)"],
)
def test_the_search_finds_them(source):
    assert unpickling(source)
