"""Template 1 in a real browser, in the classic renderer and in Nodes 2.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from .page import (
    CHART,
    CHART_SENTENCE,
    REPORT,
    chart_pixels,
    chart_text,
    ending,
    is_blank,
    line_steps,
    open_template,
    press_run,
    set_widgets,
    wait_for_chart,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

TEMPLATE = "1 Learn a word (demo model)"
NODES = (
    "TI_Train", "TI_LoadEmbedding", "TI_EncodePrompt", "TI_SaveEmbedding", "TI_LoadDemoModel", "TI_InspectEmbedding",
    "TI_MergeEmbeddings", "TI_LoadRun", "TI_PickStep", "TI_Dial", "TI_ScoreImages",
)  # fmt: skip


@pytest.fixture
def page(empty_page: Page) -> Page:
    open_template(empty_page, TEMPLATE)
    return empty_page


def test_run_moves_the_chart_and_shows_samples(page: Page, nodes_2: bool) -> None:
    set_widgets(page, "TI_Train", {"steps": 12, "preview_every": 3, "seed": 10 + nodes_2})
    set_widgets(page, "KSampler", {"steps": 4})
    assert is_blank(page)  # no axis before there is a point
    note_samples(page)
    press_run(page)
    wait_for_chart(page, r"step [1-9]\d* of 12")
    begun = chart_pixels(page)
    assert ending(page) == "execution_success"
    wait_for_chart(page, "step 12 of 12.* done")
    assert not is_blank(page) and chart_pixels(page) != begun

    shown = page.evaluate(
        "() => Object.fromEntries(app.graph.nodes.map((n) => [n.title, app.nodeOutputs[n.id]?.images?.length]))"
    )
    assert shown["Samples"] == 5 and shown["Loss"] == 1 and shown["Save Image"] == 4, shown
    samples = page.evaluate("() => window.samples")
    assert [len(names) for names in samples] == [1, 2, 3, 4, 1]  # the last is the sheet of all
    assert all(len(set(names)) == len(names) for names in samples), samples
    page.wait_for_timeout(1000)  # what a page has loaded last, it shows
    assert pictures_on(page, "TI_Train", nodes_2, of_width=5 * 134 + 6) == 1


def note_samples(page: Page) -> None:
    """Keep what the Train node shows after each message about its pictures in `window.samples`."""
    page.evaluate(
        """() => {
            window.samples = [];
            const train = app.graph.nodes.find((n) => n.type === 'TI_Train');
            app.api.addEventListener('executed', ({ detail }) => {
                if (String(detail.node) !== String(train.id)) return;
                setTimeout(() => window.samples.push(app.nodeOutputs[train.id].images.map((i) => i.filename)));
            });
        }"""
    )


def test_a_reload_and_a_second_tab_show_the_whole_run(page: Page, nodes_2: bool) -> None:
    set_widgets(page, "TI_Train", {"steps": 40, "preview_every": 0, "seed": 40 + nodes_2})
    alone(page)
    seen_whole = second_tab(page)
    press_run(page)
    wait_for_chart(page, r"step [1-9]\d of 40")
    page.reload()
    page.wait_for_selector(f"{CHART} canvas", timeout=120_000)
    opened_late = second_tab(seen_whole)
    tabs = (page, seen_whole, opened_late)
    for tab in tabs:
        wait_for_chart(tab, "step .* of 40.* result .* done")
    opened_after = second_tab(seen_whole)
    wait_for_chart(opened_after, "step .* of 40.* result .* done")
    tabs = (*tabs, opened_after)
    assert len({chart_text(tab) for tab in tabs}) == 1
    trained = int(chart_text(page).partition("step ")[2].partition(" ")[0])
    for tab in tabs:
        tab.bring_to_front()
        tab.wait_for_timeout(500)
        first, last = line_steps(tab)
        assert first < 3 and last > trained - 2, (first, last)


def alone(page: Page) -> None:
    """Leave nothing in the graph but Train and the demo model."""
    page.evaluate(
        """() => app.graph.nodes.filter((n) => !['TI_Train', 'TI_LoadDemoModel'].includes(n.type))
            .forEach((n) => app.graph.remove(n))"""
    )


def second_tab(page: Page) -> Page:
    """Another tab of the same browser with the same workflow."""
    workflow = page.evaluate("() => app.graph.serialize()")
    tab = page.context.new_page()
    tab.goto(page.url.split("#")[0])
    tab.wait_for_function("() => window.app?.extensionManager && window.app.graph", timeout=120_000)
    tab.wait_for_timeout(1000)  # it opens what it had open before
    tab.evaluate("async (workflow) => app.loadGraphData(workflow, true, true, 'the same')", workflow)
    tab.wait_for_selector(f"{CHART} canvas")
    return tab


def test_what_does_not_change_the_vectors_is_not_trained_again(page: Page, nodes_2: bool) -> None:
    set_widgets(page, "TI_Train", {"steps": 20, "preview_every": 10, "seed": 50 + nodes_2})
    alone(page)  # Train is run without anything behind it
    press_run(page)
    assert ending(page) == "execution_success"
    wait_for_chart(page, "step 20 of 20.* done$")
    trained = [round(step) for step in line_steps(page)]
    set_widgets(page, "TI_Train", {"preview_every": 5, "placeholder": "thing*"})
    press_run(page)
    assert ending(page) == "execution_success"
    wait_for_chart(page, "step 20 of 20.* done · not trained again$")
    assert [round(step) for step in line_steps(page)] == trained
    assert pictures_on(page, "TI_Train", nodes_2, of_width=3 * 134 + 6) == 1


def test_a_training_that_the_host_has_kept_is_shown_in_another_workflow(page: Page, nodes_2: bool) -> None:
    settings = {"steps": 20, "preview_every": 10, "seed": 60 + nodes_2}
    set_widgets(page, "TI_Train", settings)
    set_widgets(page, "KSampler", {"steps": 2})
    press_run(page)
    assert ending(page) == "execution_success"
    wait_for_chart(page, "step 20 of 20.* done$")
    open_template(page, "3 Use S-star in a prompt")
    assert "drawn here" in chart_text(page)
    set_widgets(page, "TI_Train", settings)
    set_widgets(page, "KSampler", {"steps": 2})
    press_run(page)
    assert ending(page) == "execution_success"
    wait_for_chart(page, "step 20 of 20.* done · not trained again$")
    assert pictures_on(page, "TI_Train", nodes_2, of_width=3 * 134 + 6) == 1


def test_a_second_copy_of_a_template_shows_nothing_of_the_run_of_the_first(page: Page, nodes_2: bool) -> None:
    set_widgets(page, "TI_Train", {"steps": 3, "preview_every": 0, "seed": 70 + nodes_2})
    alone(page)
    press_run(page)
    assert ending(page) == "execution_success"
    wait_for_chart(page, "done")
    open_template(page, TEMPLATE)
    page.wait_for_timeout(1000)
    assert "drawn here" in chart_text(page) and is_blank(page)
    page.evaluate("() => app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')")
    wait_for_chart(page, "step 3 of 3.* done")


def test_an_error_stands_on_the_node_in_place_of_what_was_there(page: Page, nodes_2: bool) -> None:
    set_widgets(page, "TI_Train", {"steps": 3, "preview_every": 0, "seed": 80 + nodes_2})
    set_widgets(page, "KSampler", {"steps": 2})
    press_run(page)
    assert ending(page) == "execution_success"
    wait_for_report(page, "S*")
    set_widgets(page, "TI_EncodePrompt", {"text": "a photo of nothing"})
    press_run(page)
    assert ending(page).startswith("execution_error")
    wait_for_report(page, "The text does not contain S*")
    set_widgets(page, "TI_Train", {"initial_words": "zxqj"})
    press_run(page)
    assert ending(page).startswith("execution_error")
    wait_for_chart(page, "Loss chart: failed: .*zxqj")
    sentence = page.locator(CHART_SENTENCE)
    assert "zxqj" in sentence.inner_text() and is_blank(page)
    box = sentence.bounding_box()
    assert box and box["height"] > 10
    assert sentence.evaluate("(text) => text.scrollHeight <= text.clientHeight + 1")  # all of it can be seen


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
    texts = page.evaluate(
        """() => app.graph.nodes.find((n) => n.type === 'TI_Train').widgets
            .filter((w) => w.name === '$$node-text-preview').map((w) => w.value)"""
    )
    assert all(text.startswith("cancelled") for text in texts), texts
    set_widgets(page, "TI_Train", {"steps": 3})
    set_widgets(page, "KSampler", {"steps": 2})
    press_run(page)
    assert ending(page) == "execution_success"
    wait_for_chart(page, "step 3 of 3.* done")


def test_stop_and_keep_ends_the_run_with_a_word_and_the_next_one_goes_on(page: Page, nodes_2: bool) -> None:
    set_widgets(page, "TI_Train", {"steps": 400, "preview_every": 0, "seed": 90 + nodes_2})
    set_widgets(page, "KSampler", {"steps": 2})
    press_run(page)
    wait_for_chart(page, r"step [1-9]\d* of 400")
    page.get_by_role("button", name="Sample now").click()
    count = "() => app.nodeOutputs[app.graph.nodes.find((n) => n.type === 'TI_Train').id]?.images?.length"
    page.wait_for_function(f"{count} === 1")
    page.get_by_role("button", name="Stop & keep").click()
    assert ending(page) == "execution_success"
    wait_for_chart(page, r"Stopped by hand after step \d+")
    assert page.get_by_role("button", name="Stop & keep").count() == 0  # nothing to stop any more
    wait_for_report(page, "Saved as embedding:demo-heart")
    stopped = int(chart_text(page).partition("step ")[2].partition(" ")[0])
    assert stopped < 400
    press_run(page)  # with nothing changed
    wait_for_chart(page, rf"step ({'|'.join(str(stopped + more) for more in range(1, 20))}) of 400")
    page.evaluate("() => app.api.interrupt()")
    assert ending(page) == "execution_interrupted"
    wait_for_chart(page, "cancelled; Run goes on from here")


def test_a_workflow_that_is_opened_later_shows_its_run_from_disk(page: Page, nodes_2: bool) -> None:
    set_widgets(page, "TI_Train", {"steps": 4, "preview_every": 0, "seed": 100 + nodes_2})
    alone(page)
    press_run(page)
    assert ending(page) == "execution_success"
    wait_for_chart(page, "step 4 of 4.* done")
    workflow = page.evaluate("() => app.graph.serialize()")
    workflow["id"] = "0a1b2c3d-0000-4000-8000-000000000000"  # of a workflow that the server knows nothing of
    page.evaluate("async (workflow) => app.loadGraphData(workflow, true, true, 'later')", workflow)
    wait_for_chart(page, "step 4 of 4.* done")


def test_the_axis_can_be_switched_and_is_kept_in_the_workflow(page: Page) -> None:
    button = page.locator(f"{CHART} + div button[title*='linear']")
    assert button.inner_text() == "linear"
    button.click()
    page.wait_for_function(
        "(selector) => document.querySelector(selector).textContent === 'log'",
        arg=f"{CHART} + div button[title*='linear']",
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


def test_the_help_of_a_node_fits_the_side_panel(page: Page) -> None:
    page.evaluate(
        """() => app.canvas.selectItems
            ? app.canvas.selectItems(app.graph.nodes.filter((n) => n.type === 'TI_Train'))
            : app.canvas.selectNodes(app.graph.nodes.filter((n) => n.type === 'TI_Train'))"""
    )
    page.get_by_test_id("info-button").click()
    help_text = page.locator(".node-help-content")
    help_text.get_by_text("preview_every").first.wait_for()
    assert help_text.locator("li").count() > 20
    too_wide = """(panel) => [...panel.querySelectorAll('*')]
        .filter((element) => element.scrollWidth > panel.clientWidth || element.tagName === 'TABLE')
        .map((element) => element.outerHTML.slice(0, 80))"""
    assert help_text.evaluate(too_wide) == []
