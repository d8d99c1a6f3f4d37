"""Every relative import of the pack leads to a module that is there."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "nodes").rglob("*.py"), *(ROOT / "ti_engine").rglob("*.py")])


def imported_modules(file: Path) -> list[Path]:
    """Without its ending, the place of each module that `file` imports from relatively."""
    nodes = [n for n in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(n, ast.ImportFrom) and n.level]
    return [file.parents[node.level - 1].joinpath(*(node.module or "").split(".")) for node in nodes]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_relative_imports_lead_somewhere(file: Path):
    for place in imported_modules(file):
        assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file(), place
