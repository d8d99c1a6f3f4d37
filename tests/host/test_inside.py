"""Runs tests/host/inside in the host's own interpreter, with its own torch, and passes on what it says."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.comfyui

HERE = Path(__file__).resolve().parent
_LENT = (
    "pytest",
    "_pytest",
    "pluggy",
    "iniconfig",
    "packaging",
    "pygments",
    "py",
    "exceptiongroup",
    "tomli",
    "xdist",
    "execnet",
)


def test_inside_the_host(comfyui, tmp_path, capsys):
    make_reference(tmp_path)
    command = [comfyui.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no", "--tb=short"]
    command += ["-p", "xdist.plugin", "-n", "auto", "--dist", "worksteal"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(lend_pytest(tmp_path / "pytest")),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TI_INSIDE_HOST": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    log = tmp_path / "inside.log"
    with log.open("wb") as output:
        # `-m` puts the working folder first on sys.path: the host's, where its modules are
        code = subprocess.run(
            [*command, HERE / "inside"], cwd=comfyui.folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        ).returncode
    with capsys.disabled():
        print(f"\n--- inside {comfyui.folder} ---\n{log.read_text(errors='replace')[-20000:]}---")
    assert code == 0


def lend_pytest(folder: Path) -> Path:
    """A folder with links to pytest's packages, which are pure Python, so the host needs no installation of them."""
    folder.mkdir()
    for name in _LENT:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        source = Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)
        (folder / source.name).symlink_to(source)
    return folder


def make_reference(folder: Path) -> None:
    """A demo model with random weights, and what diffusers and transformers compute with it."""
    script = HERE / "reference_tensors.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, script, folder], check=True, env=environment)
