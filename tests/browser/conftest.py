"""A Chromium for the tests in this folder; without one they are left out with one line that says why."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ..host.conftest import comfy_server, comfyui

if TYPE_CHECKING:
    from playwright.sync_api import Browser


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
