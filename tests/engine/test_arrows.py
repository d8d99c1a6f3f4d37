"""Which folder of the engine may import from which: arrows never point back."""

import ast
from pathlib import Path

import pytest

ENGINE = Path(__file__).resolve().parents[2] / "ti_engine"
BELOW_TRAINING = {"word", "method", "data", "memory"}
MAY_IMPORT = {
    "word": set(),
    "method": set(),
    "memory": set(),
    "data": {"word"},
    "files": {"word"},
    "training": BELOW_TRAINING,
    "evaluation": {"data", "word"},
    "run": {"files", "training", *BELOW_TRAINING},
    "standalone": {"training", *BELOW_TRAINING},
    "demo": {"cli", "evaluation", "standalone", "training", "files", *BELOW_TRAINING},
    "cli": {"demo", "evaluation", "run", "standalone", "training", "files", *BELOW_TRAINING},
}


def imported_folders(file: Path) -> set[str]:
    """The folders of the engine that a module imports from when it runs; those for annotations alone do not count."""
    tree = ast.parse(file.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            package = file.relative_to(ENGINE).parent.parts
            base = package[: len(package) - (node.level - 1)]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {(*base, *name.split("."))[0] for name in names}
    return found


def test_every_folder_has_its_arrows():
    assert {folder.name for folder in ENGINE.iterdir() if (folder / "__init__.py").is_file()} == set(MAY_IMPORT)


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_arrows_never_point_back(folder: str):
    for file in (ENGINE / folder).rglob("*.py"):
        back = imported_folders(file) - MAY_IMPORT[folder] - {folder, "version"}
        assert not back, f"{file.relative_to(ENGINE)} imports from {', '.join(sorted(back))}"


def test_the_arrows_are_found(tmp_path: Path):
    assert "training" in imported_folders(ENGINE / "cli" / "train.py")
    assert "method" in imported_folders(ENGINE / "training" / "loop.py")
