"""The templates as files: readable by people and complete for every host, without starting one."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "example_workflows"
TEMPLATES = sorted(FOLDER.glob("*.json"))
TITLE_HEIGHT = 30  # px above a node's own position
LARGEST_THUMBNAIL = 60_000  # bytes

each_template = pytest.mark.parametrize("file", TEMPLATES, ids=lambda f: f.stem)


def load(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8"))


def test_there_are_four() -> None:
    assert [file.stem for file in TEMPLATES] == [
        "1 Learn a word (demo model)",
        "2 Learn a word (your checkpoint)",
        "3 Use S-star in a prompt",
        "4 Inpaint with S-star",
    ]


def size_of(node: dict[str, Any]) -> tuple[float, float]:
    """Width, and height below the title, of which a folded node has none."""
    width, height = node["size"]
    return (width, 0) if node["flags"].get("collapsed") else (width, height)


@each_template
def test_every_opening_is_a_workflow_of_its_own(file: Path) -> None:
    # The page gives a workflow without an id a new one; by it, runs find their nodes.
    assert "id" not in load(file)


@each_template
def test_no_node_lies_on_another(file: Path) -> None:
    nodes = load(file)["nodes"]
    for a, b in combinations(nodes, 2):
        (ax, ay), (aw, ah), (bx, by), (bw, bh) = a["pos"], size_of(a), b["pos"], size_of(b)
        beside = ax + aw <= bx or bx + bw <= ax
        above = ay + ah <= by - TITLE_HEIGHT or by + bh <= ay - TITLE_HEIGHT
        assert beside or above, (a["id"], a["type"], b["id"], b["type"])


@each_template
def test_nothing_lies_below_the_train_node(file: Path) -> None:
    # With Nodes 2.0 the node grows while it shows its sample pictures.
    nodes = load(file)["nodes"]
    (train,) = [node for node in nodes if node["type"] == "TI_Train"]
    (left, top), (width, _) = train["pos"], train["size"]
    lower = [node for node in nodes if node["pos"][1] > top]
    below = [n for n in lower if n["pos"][0] < left + width and n["pos"][0] + n["size"][0] > left]
    assert not below


@each_template
def test_links_and_slots_agree(file: Path) -> None:
    workflow = load(file)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, source, out, target, slot, kind in workflow["links"]:
        assert number in nodes[source]["outputs"][out]["links"]
        assert nodes[target]["inputs"][slot]["link"] == number
        accepted = nodes[target]["inputs"][slot]["type"]
        assert nodes[source]["outputs"][out]["type"] == kind and accepted in (kind, "*")


@each_template
def test_a_note_explains_in_five_lines_and_our_nodes_can_be_found_by_name(file: Path) -> None:
    nodes = load(file)["nodes"]
    (note,) = [node for node in nodes if node["type"] == "MarkdownNote"]
    numbered = [line for line in note["widgets_values"][0].splitlines() if line[:1].isdigit()]
    assert [line[:2] for line in numbered] == ["1.", "2.", "3.", "4.", "5."]
    for node in nodes:
        if node["type"].startswith("TI_"):
            assert node["properties"]["cnr_id"] == "textual-inversion"


@each_template
def test_it_has_a_small_thumbnail(file: Path) -> None:
    thumbnail = file.with_suffix(".jpg")
    assert thumbnail.stat().st_size < LARGEST_THUMBNAIL
    with Image.open(thumbnail) as picture:
        assert picture.format == "JPEG" and min(picture.size) >= 256
