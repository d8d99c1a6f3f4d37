"""The ComfyUI page in a real browser, with what the tests do to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHART = "[aria-label^='Loss chart']"
CHART_SENTENCE = f"{CHART} + div > div"
REPORT = "[aria-label='Report']"
_READY = """() => window.app?.extensionManager
    && app.extensions?.some((extension) => extension.name === 'textual_inversion.LossChart')"""


def open_comfy(browser: Browser, url: str, nodes_2: bool) -> Page:
    """A page that is ready, in the classic renderer or in Nodes 2.0."""
    # A first start opens the list of templates over everything.
    body = json.dumps({"Comfy.TutorialCompleted": True, "Comfy.VueNodes.Enabled": nodes_2}).encode()
    urlopen(Request(f"{url}/settings", body, {"Content-Type": "application/json"}), timeout=60).close()
    page = browser.new_context(viewport={"width": 1700, "height": 1000}).new_page()
    page.goto(url)
    page.wait_for_function(_READY, timeout=120_000)
    # The settings are kept on the server between tests, and a page may have been open when they were written.
    page.evaluate("on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", nodes_2)
    return page


def offers_nodes_2(page: Page) -> bool:
    """Whether a person can choose Nodes 2.0; older pages know the setting from a trial that shows no own widgets."""
    return page.evaluate(
        "() => !!app.ui.settings.settingsLookup['Comfy.VueNodes.Enabled']?.name?.includes('Nodes 2.0')"
    )


def open_template(page: Page, title: str) -> None:
    """Open one of our templates as the template dialog does."""
    page.evaluate(
        """async (title) => {
            const names = (await (await fetch('/api/workflow_templates')).json())['textual-inversion'];
            if (!names?.includes(title)) throw new Error(`no template ${title} in ${names}`);
            const file = await fetch(`/api/workflow_templates/textual-inversion/${encodeURIComponent(title)}.json`);
            await app.loadGraphData(await file.json(), true, true, title, { openSource: 'template' });
        }""",
        title,
    )
    page.wait_for_selector(f"{CHART} canvas")


def set_widgets(page: Page, class_type: str, values: dict[str, Any]) -> None:
    """Set widgets of every node of a class by name."""
    page.evaluate(
        """([type, values]) => {
            for (const node of app.graph.nodes.filter((n) => n.type === type))
                for (const [name, value] of Object.entries(values))
                    node.widgets.find((w) => w.name === name).value = value;
        }""",
        [class_type, values],
    )


def press_run(page: Page) -> None:
    """Click the Run button; `ending` tells how it went."""
    page.evaluate(
        """() => {
            window.ending = null;
            for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
                app.api.addEventListener(kind, ({ detail }) => (window.ending ??= [kind, detail.exception_message]));
        }"""
    )
    page.get_by_role("button", name="Run", exact=True).first.click()


def ending(page: Page, timeout_seconds: float = 240) -> str:
    """Wait for the run to end; returns the kind of the last event."""
    page.wait_for_function("() => window.ending", timeout=1000 * timeout_seconds)
    kind, message = page.evaluate("() => window.ending")
    return kind if message is None else f"{kind}: {message}"


def chart_text(page: Page) -> str:
    """What the chart says to people who cannot see it."""
    return page.get_attribute(CHART, "aria-label") or ""


def chart_pixels(page: Page) -> str:
    """The chart as it is painted now."""
    return page.evaluate("selector => document.querySelector(`${selector} canvas`).toDataURL()", CHART)


def wait_for_chart(page: Page, part: str, timeout_seconds: float = 240) -> None:
    """Wait until the chart's text matches a JavaScript regular expression."""
    page.wait_for_function(
        "([selector, part]) => new RegExp(part).test(document.querySelector(selector)?.getAttribute('aria-label'))",
        arg=[CHART, part],
        timeout=1000 * timeout_seconds,
    )


def is_blank(page: Page) -> bool:
    """Whether nothing is painted on the chart."""
    return page.evaluate(
        """selector => {
            const canvas = document.querySelector(`${selector} canvas`);
            const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            return data.every((value) => value === 0);
        }""",
        CHART,
    )


def line_steps(page: Page) -> tuple[float, float]:
    """The first and the last step at which the smoothed line is painted, in the dark theme."""
    left, right, width = page.evaluate(
        """selector => {
            const canvas = document.querySelector(`${selector} canvas`);
            const density = window.devicePixelRatio;
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            const columns = [];
            for (let y = Math.round(16 * density); y < canvas.height; y++) // the legend is above
                for (let x = 0; x < canvas.width; x++) {
                    const [red, green, blue] = data.slice(4 * (y * canvas.width + x), 4 * (y * canvas.width + x) + 3);
                    if (red === 0x60 && green === 0xa5 && blue === 0xfa) columns.push(x / density);
                }
            return [Math.min(...columns), Math.max(...columns), canvas.width / density];
        }""",
        CHART,
    )
    trained = int(chart_text(page).partition("step ")[2].partition(" ")[0])
    return tuple((x - 40) / (width - 50) * trained for x in (left, right))  # the margins of the chart
