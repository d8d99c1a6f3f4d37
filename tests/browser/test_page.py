"""Template 1 in a real browser, in the classic renderer and in Nodes 2.0."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from .page import (
    CHART,
    REPORT,
    chart_pixels,
    chart_text,
    ending,
    offers_nodes_2,
    open_comfy,
    open_template,
    press_run,
    set_widgets,
    wait_for_chart,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

TEMPLATE = "1 Learn a word (demo model)"
NODES = (
    "TI_Train", "TI_LoadEmbedding", "TI_EncodePrompt", "TI_SaveEmbedding", "TI_LoadDemoModel", "TI_InspectEmbedding",
    "TI_MergeEmbeddings",
)  # fmt: skip


@pytest.fixture(params=[False, True], ids=["classic", "nodes-2.0"])
def nodes_2(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def page(request: pytest.FixtureRequest, browser: Browser, comfy_server: Any, nodes_2: bool) -> Iterator[Page]:
    page = open_comfy(browser, comfy_server.url, nodes_2)
    if nodes_2 and not offers_nodes_2(page):
        page.close()
        pytest.skip("this ComfyUI's page does not offer Nodes 2.0")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error.stack)))
    open_template(page, TEMPLATE)
    yield page
    screenshot(page, request.node.name)
    page.close()
    assert not [error for error in errors if "textual-inversion" in error]


def screenshot(page: Page, name: str) -> None:
    """For a person to look at: kept in the folder $SCREENSHOTS if there is one."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def test_run_moves_the_chart_and_shows_samples(page: Page, nodes_2: bool) -> None:
    set_widgets(page, "TI_Train", {"steps": 12, "preview_every": 6, "seed": 10 + nodes_2})
    set_widgets(page, "KSampler", {"steps": 4})
    empty = chart_pixels(page)
    press_run(page)
    wait_for_chart(page, r"step [1-9]\d* of 12")
    begun = chart_pixels(page)
    assert begun != empty
    assert ending(page) == "execution_success"
    wait_for_chart(page, "step 12 of 12.* done")
    assert chart_pixels(page) not in (empty, begun)

    shown = page.evaluate(
        "() => Object.fromEntries(app.graph.nodes.map((n) => [n.title, app.nodeOutputs[n.id]?.images?.length]))"
    )
    assert shown["Samples"] == 3 and shown["Loss"] == 1 and shown["Save Image"] == 4, shown
    assert pictures_on(page, "TI_Train", nodes_2, of_width=3 * 128) == 1  # the contact sheet


def test_reports_are_shown_on_the_nodes_and_come_back_with_the_workflow(page: Page, nodes_2: bool) -> None:
    set_widgets(page, "TI_Train", {"steps": 3, "preview_every": 0, "seed": 30 + nodes_2})
    set_widgets(page, "TI_EncodePrompt", {"text": "a photo of S* embedding:nofile"})
    set_widgets(page, "KSampler", {"steps": 2})
    before = saved_widgets(page)
    press_run(page)
    assert ending(page) == "execution_success"
    wait_for_report(page, "Saved as embedding:demo-heart")
    wait_for_report(page, "embedding:nofile is in none of the embeddings folders")
    shown = page.locator(REPORT).first.bounding_box()
    assert shown and shown["width"] > 100 and shown["height"] > 25
    assert saved_widgets(page) == before
    page.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.wait_for_function("() => app.graph.nodes.length === 0")
    page.evaluate("() => app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')")
    wait_for_report(page, "Saved as embedding:demo-heart")


def wait_for_report(page: Page, part: str) -> None:
    """Wait until a node in the page shows a report that contains `part`."""
    page.wait_for_function(
        "([panels, part]) => [...document.querySelectorAll(panels)].some((panel) => panel.value.includes(part))",
        arg=[REPORT, part],
    )


def saved_widgets(page: Page) -> list[Any]:
    """What a workflow keeps of the widgets of the nodes that show a report."""
    return page.evaluate(
        """() => app.graph.serialize().nodes
            .filter((n) => ['TI_SaveEmbedding', 'TI_EncodePrompt'].includes(n.type)).map((n) => n.widgets_values)"""
    )


def pictures_on(page: Page, node_type: str, nodes_2: bool, of_width: int) -> int:
    """How many pictures a node shows, once one of them has a width."""
    page.wait_for_function(
        """([type, nodes2, width]) => {
            const node = app.graph.nodes.find((n) => n.type === type);
            window.shown = nodes2 ? [...document.querySelectorAll(`[data-node-id='${node.id}'] img`)] : node.imgs ?? [];
            return window.shown.some((picture) => picture.naturalWidth === width);
        }""",
        arg=[node_type, nodes_2, of_width],
    )
    return page.evaluate("() => window.shown.length")


def test_cancel_is_said_on_the_chart_and_the_next_run_begins_anew(page: Page, nodes_2: bool) -> None:
    set_widgets(page, "TI_Train", {"steps": 5000, "preview_every": 0, "seed": 20 + nodes_2})
    press_run(page)
    wait_for_chart(page, r"step [1-9]\d* of 5000")
    page.evaluate("() => app.api.interrupt()")
    assert ending(page) == "execution_interrupted"
    wait_for_chart(page, "cancelled")
    set_widgets(page, "TI_Train", {"steps": 3})
    set_widgets(page, "KSampler", {"steps": 2})
    press_run(page)
    assert ending(page) == "execution_success"
    wait_for_chart(page, "step 3 of 3.* done")


def test_the_axis_can_be_switched_and_is_kept_in_the_workflow(page: Page) -> None:
    before = chart_pixels(page)
    page.locator(f"{CHART} + div button").click()
    page.wait_for_function(
        "([selector, before]) => document.querySelector(`${selector} canvas`).toDataURL() !== before",
        arg=[CHART, before],
    )
    saved = page.evaluate("() => app.graph.serialize().nodes.find((n) => n.type === 'TI_Train')")
    assert saved["properties"]["loss_axis"] == "log"
    assert len(saved["widgets_values"]) == 10  # the chart is no setting and is not saved as one


def test_alternatives_and_comments_are_what_they_are_in_clip_text_encode(page: Page) -> None:
    text = "a {S*|S*} beside <pets/fox> // a remark\n(S*:1.2) {x|{x|x}} /* and another */ \\{S*\\}, embedding:fox-2"
    sent = page.evaluate(
        """async (text) => {
            const found = {};
            for (const type of ['CLIPTextEncode', 'TI_EncodePrompt']) {
                const node = LiteGraph.createNode(type);
                app.graph.add(node);
                node.widgets.find((w) => w.name === 'text').value = text;
                const prompt = await app.graphToPrompt();
                found[type] = prompt.output[node.id].inputs.text;
                app.graph.remove(node);
            }
            return found;
        }""",
        text,
    )
    assert sent["TI_EncodePrompt"] == sent["CLIPTextEncode"]
    assert sent["TI_EncodePrompt"].split("\n")[0].strip() == "a S* beside <pets/fox>"


def test_no_chart_on_other_nodes(page: Page) -> None:
    assert page.locator(CHART).count() == 1
    assert "drawn here" in chart_text(page)


def test_the_server_offers_the_page_what_it_needs(comfy_server: Any) -> None:
    def get(path: str) -> str:
        with urlopen(f"{comfy_server.url}{path}", timeout=60) as answer:
            return answer.read().decode()

    ours = [line for line in get("/extensions").replace('"', "").strip("[]").split(",") if "textual-inversion" in line]
    assert [line.strip() for line in ours] == ["/extensions/textual-inversion/textual_inversion.js"]
    for node in NODES:
        assert get(f"/extensions/textual-inversion/docs/{node}/en.md").startswith("# ")
