"""The help pages of the nodes, which the page shows in a narrow panel."""

from __future__ import annotations

from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).resolve().parents[2] / "web" / "docs").glob("*/*.md"))


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.parent.name)
def test_they_are_lists_and_no_tables(file: Path) -> None:
    lines = file.read_text("utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert not [line for line in lines if line.lstrip().startswith("|")]
