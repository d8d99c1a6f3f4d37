"""Load Run in a real browser: what a run is can be seen before anything is executed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from .page import CHART, chart_text, is_blank, wait_for_chart

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
sys.path.append(str(Path(__file__).resolve().parents[1] / "engine"))  # the toy backend

WITH_PICTURES, WITHOUT_PICTURES, UNFINISHED = "ab" * 16, "cd" * 16, "ef" * 16
GALLERY = "[aria-label='Newest runs'] button"
STRIP = "[aria-label='Preview pictures']"


@pytest.fixture
def store(comfy_server: Any) -> Iterator[Any]:
    """Three runs; the newest is the first."""
    from toy_runs import toy_run

    from ti_engine.run.store import RunStore

    store = RunStore(comfy_server.base / "output" / "textual_inversion")
    toy_run(store.root, WITH_PICTURES, steps=6)
    draw_previews(store.folder(WITH_PICTURES), [0, 3, None])
    toy_run(store.root, WITHOUT_PICTURES, steps=5)
    toy_run(store.root, UNFINISHED, steps=8, until=4)
    draw_previews(store.folder(UNFINISHED), [0, 4])
    for hour, run_id in enumerate((UNFINISHED, WITHOUT_PICTURES, WITH_PICTURES)):
        os.utime(store.folder(run_id).state_file, (1.9e9 + 3600 * hour,) * 2)
    yield store
    for run_id in store.ids():
        store.delete(store.folder(run_id))


def draw_previews(folder: Any, steps: list[int | None]) -> None:
    for step in steps:
        file = folder.preview_file(step)
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (96, 96), (220, 30 * (step or 0), 60)).save(file)


@pytest.fixture
def page(store: Any, empty_page: Page) -> Page:
    """Load Run, alone in a new workflow, with the lists as they are now."""
    empty_page.evaluate(
        """async () => {
            await app.extensionManager.command.execute('Comfy.NewBlankWorkflow');
            await app.refreshComboInNodes();
            const node = LiteGraph.createNode('TI_LoadRun');
            node.pos = [500, 80];
            app.graph.add(node);
            app.canvas.ds.scale = 1;
            app.canvas.ds.offset = [0, 0];
            app.graph.setDirtyCanvas(true, true);
        }"""
    )
    empty_page.wait_for_selector(f"{CHART} canvas")
    empty_page.wait_for_selector(GALLERY)
    return empty_page


def entries(page: Page) -> list[str]:
    return page.evaluate(
        """() => {
            const { values } = app.graph.nodes[0].widgets.find((w) => w.name === 'run').options;
            return typeof values === 'function' ? values() : values;
        }"""
    )


def chosen(page: Page) -> str:
    return page.evaluate("() => app.graph.nodes[0].widgets.find((w) => w.name === 'run').value")


def choose(page: Page, entry: str) -> None:
    """As the list of either renderer does when an entry is clicked."""
    page.evaluate(
        """(entry) => {
            const list = app.graph.nodes[0].widgets.find((w) => w.name === 'run');
            list.value = entry;
            list.callback(entry, app.canvas, app.graph.nodes[0]);
        }""",
        entry,
    )


def pictures(page: Page) -> list[str]:
    """The captions of the film strip's pictures, once all of them are loaded."""
    page.wait_for_function(
        "(strip) => [...document.querySelectorAll(`${strip} img`)].every((one) => one.naturalWidth === 96)", arg=STRIP
    )
    return page.locator(f"{STRIP} a").all_inner_texts()


def entry_of(page: Page, run_id: str) -> str:
    (entry,) = (one for one in entries(page) if one.endswith(run_id[:8]))
    return entry


def test_a_new_node_shows_the_newest_run_and_choosing_another_one_shows_that(page: Page) -> None:
    wait_for_chart(page, "step 6 of 6.* done")
    assert pictures(page) == ["step 0", "step 3", "result"] and not is_blank(page)
    choose(page, entry_of(page, UNFINISHED))
    wait_for_chart(page, "step 4 of 8.* cancelled; Run goes on from here")
    assert pictures(page) == ["step 0", "step 4"]
    choose(page, entry_of(page, WITHOUT_PICTURES))
    wait_for_chart(page, "step 5 of 5.* done")
    assert page.locator(STRIP).inner_text().strip() == "This run has no preview pictures."
    assert page.locator(f"{STRIP} img").count() == 0


def test_a_run_is_chosen_by_its_picture_with_the_mouse_and_the_keyboard(page: Page) -> None:
    buttons = page.locator(GALLERY)
    labels = [button.get_attribute("aria-label") for button in buttons.all()]
    assert [label.split(", ")[::2] for label in labels if label] == [
        ["S*", "6 steps"],
        ["S*", "5 steps"],
        ["S*", "4 of 8 steps"],
    ]
    assert "no picture" in buttons.nth(1).inner_text() and buttons.locator("img").count() == 2
    buttons.nth(2).click()
    wait_for_chart(page, "step 4 of 8")
    assert chosen(page) == entry_of(page, UNFINISHED)
    assert [button.get_attribute("aria-pressed") for button in buttons.all()] == ["false", "false", "true"]
    page.keyboard.press("Shift+Tab")
    assert buttons.nth(1).evaluate("(button) => getComputedStyle(button).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    wait_for_chart(page, "step 5 of 5")
    assert chosen(page) == entry_of(page, WITHOUT_PICTURES)


def test_a_run_that_is_newer_than_the_list_can_be_chosen(page: Page, store: Any) -> None:
    from toy_runs import toy_run

    toy_run(store.root, "01" * 16, steps=7)
    assert not [entry for entry in entries(page) if ", 7 steps, " in entry]
    page.evaluate("() => app.graph.nodes[0].configure(app.graph.nodes[0].serialize())")  # as paste does
    page.locator(f"{GALLERY}[title$=', 7 steps']").click()
    wait_for_chart(page, "step 7 of 7")
    assert chosen(page) == entry_of(page, "01" * 16)


def test_a_reload_shows_the_chosen_run_again(page: Page) -> None:
    page.locator(GALLERY).nth(2).click()
    wait_for_chart(page, "step 4 of 8")
    page.wait_for_timeout(1500)  # the page keeps what is open some time after a click
    page.reload()
    page.wait_for_selector(f"{CHART} canvas", timeout=120_000)
    wait_for_chart(page, "step 4 of 8")
    assert pictures(page) == ["step 0", "step 4"]


def test_a_run_that_was_deleted_is_said_and_a_new_one_comes_with_refresh(page: Page, store: Any) -> None:
    from toy_runs import toy_run

    entry = entry_of(page, UNFINISHED)
    store.delete(store.folder(UNFINISHED))
    choose(page, entry)
    wait_for_chart(page, "The run 'efefefef' is not on disk any more. Press R and choose another one.")
    assert is_blank(page) and not page.locator(STRIP).is_visible()
    toy_run(store.root, "01" * 16, steps=7)
    draw_previews(store.folder("01" * 16), [None])
    page.evaluate("() => app.extensionManager.command.execute('Comfy.RefreshNodeDefinitions')")
    page.wait_for_function(
        "(buttons) => [...document.querySelectorAll(buttons)].some((one) => one.title.endsWith(', 7 steps'))",
        arg=GALLERY,
    )
    assert page.locator(GALLERY).count() == 3
    page.locator(f"{GALLERY}[title$=', 7 steps']").click()
    wait_for_chart(page, "step 7 of 7")
    assert chosen(page) == entry_of(page, "01" * 16) and pictures(page) == ["result"]


def test_a_run_that_goes_on_is_followed_to_its_end(page: Page, store: Any) -> None:
    page.locator(GALLERY).nth(2).click()
    wait_for_chart(page, "step 4 of 8.* cancelled")
    tell = """([run, step, state]) => {
        const points = Array.from({ length: step }, (_, i) => [i + 1, 0.5]);
        const loss = { batches: points, smoothed: points, evaluations: [], result: null, stopped: null };
        const detail = { ...loss, run, step, steps: 8, state, sentence: null, reused: false, time: step };
        app.api.dispatchEvent(new CustomEvent('textual_inversion.step', { detail }));
    }"""
    page.evaluate(tell, [WITH_PICTURES, 2, "running"])  # another one
    page.evaluate(tell, [UNFINISHED, 5, "running"])
    wait_for_chart(page, "step 5 of 8 · smoothed loss 0.5$")
    assert page.get_by_role("button", name="Stop & keep").is_visible()
    draw_previews(store.folder(UNFINISHED), [7])
    page.evaluate(tell, [UNFINISHED, 8, "done"])
    page.wait_for_function("(strip) => document.querySelectorAll(`${strip} a`).length === 3", arg=STRIP)
    assert pictures(page) == ["step 0", "step 4", "step 7"]


def test_nothing_of_it_is_saved_but_the_entry(page: Page) -> None:
    wait_for_chart(page, "step 6 of 6")
    assert page.evaluate("() => app.graph.serialize().nodes[0].widgets_values") == [chosen(page)]
    sent = page.evaluate("async () => Object.values((await app.graphToPrompt()).output)[0].inputs")
    assert sent == {"run": chosen(page)}
    assert "Loss chart: step 6 of 6" in chart_text(page)
