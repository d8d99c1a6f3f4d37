"""A Chromium for the tests in this folder; without one they are left out with one line that says why."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ..host.conftest import comfy_server, comfyui
from .page import offers_nodes_2, open_comfy

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


__all__ = ["comfy_server", "comfyui"]  # the server of the host tests


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser tests")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium at $CHROMIUM or on the path: no browser tests")
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = driver.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()


@pytest.fixture(params=[False, True], ids=["classic", "nodes-2.0"])
def nodes_2(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def empty_page(request: pytest.FixtureRequest, browser: Browser, comfy_server: Any, nodes_2: bool) -> Iterator[Page]:
    """A page that is ready. Afterwards its picture is kept in the folder $SCREENSHOTS, if there is one, for a person to
    look at, and an error in one of our files fails the test."""
    page = open_comfy(browser, comfy_server.url, nodes_2)
    if nodes_2 and not offers_nodes_2(page):
        page.context.close()
        pytest.skip("this ComfyUI's page does not offer Nodes 2.0")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error.stack)))
    yield page
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{request.node.name}.png"))
    page.context.close()
    assert not [error for error in errors if "textual-inversion" in error]
