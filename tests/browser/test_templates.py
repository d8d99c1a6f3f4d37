"""The templates as they open on a small screen: all in view, nothing on top of another, text that can be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .page import offers_nodes_2, open_comfy, open_template

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

TITLES = sorted(file.stem for file in (Path(__file__).resolve().parents[2] / "example_workflows").glob("*.json"))
LEGIBLE = 0.67  # titles are 14 px high at a scale of 1, and below 0.57 the page leaves texts out
_BOXES = """(nodes2) => app.graph.nodes.map((node) => {
    if (!nodes2) {
        const [x, y, width, height] = node.boundingRect ?? node.getBounding();
        const [left, top] = app.canvas.ds.convertOffsetToCanvas([x, y]);
        return [node.title, left, top, width * app.canvas.ds.scale, height * app.canvas.ds.scale];
    }
    const box = document.querySelector(`[data-node-id='${node.id}']`).getBoundingClientRect();
    return [node.title, box.left, box.top, box.width, box.height];
})"""


@pytest.mark.parametrize("nodes_2", [False, True], ids=["classic", "nodes-2.0"])
def test_every_template_opens_legibly(browser: Browser, comfy_server: Any, nodes_2: bool) -> None:
    page = open_comfy(browser, comfy_server.url, nodes_2)
    if nodes_2 and not offers_nodes_2(page):
        page.context.close()
        pytest.skip("this ComfyUI's page does not offer Nodes 2.0")
    for width, height in ((1440, 900), (1700, 1000)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function("width => app.canvas.canvas.clientWidth === width", arg=width)
        for title in TITLES:
            open_template(page, title)
            page.wait_for_timeout(1500)  # Nodes 2.0 measures its nodes and moves them apart
            scale = page.evaluate("() => app.canvas.ds.scale")
            boxes = page.evaluate(_BOXES, nodes_2)
            assert scale >= LEGIBLE, (title, width, scale)
            assert not [box for box in boxes if not is_inside(box, width, height)], (title, width)
            assert not overlapping(boxes), (title, width)
    page.context.close()


def is_inside(box: list[Any], width: int, height: int) -> bool:
    _, left, top, across, down = box
    return left >= 0 and top >= 0 and left + across <= width and top + down <= height


def overlapping(boxes: list[list[Any]]) -> list[tuple[str, str]]:
    """Titles of nodes that lie on one another, by more than a rounded pixel."""
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]
    return [
        (a[0], b[0])
        for a, b in pairs
        if min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]) > 1 and min(a[2] + a[4], b[2] + b[4]) - max(a[2], b[2]) > 1
    ]
