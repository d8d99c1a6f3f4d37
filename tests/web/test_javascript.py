"""Runs the page's unit tests (tests/web/*.test.mjs) with the test runner that node brings along."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="node is not installed, so the JavaScript tests are left out")
def test_javascript():
    files = sorted(map(str, HERE.rglob("*.test.mjs")))
    result = subprocess.run([str(NODE), "--test", *files], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
