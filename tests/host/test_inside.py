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
FAMILIES = HERE / "inside" / "models" / "test_families.py"
_PYTEST = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py", "exceptiongroup", "tomli")


def test_inside_the_host(comfyui, tmp_path, capsys):
    """In two processes, one for the proofs of all families: they take as long as all else together."""
    make_reference(tmp_path)
    command = [comfyui.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no", "--tb=short"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(lend_pytest(tmp_path / "pytest")),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TI_INSIDE_HOST": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    logs = [tmp_path / "families.log", tmp_path / "others.log"]
    processes = []
    for log, tests in zip(logs, ([FAMILIES], [HERE / "inside", f"--ignore={FAMILIES}"]), strict=True):
        with log.open("wb") as output:
            # `-m` puts the working folder first on sys.path: the host's, where its modules are
            processes.append(
                subprocess.Popen(
                    [*command, *tests], cwd=comfyui.folder, env=environment, stdout=output, stderr=subprocess.STDOUT
                )
            )
    codes = [process.wait() for process in processes]
    with capsys.disabled():
        for log in logs:
            print(f"\n--- inside {comfyui.folder} ---\n{log.read_text(errors='replace')[-20000:]}---")
    assert codes == [0, 0]


def lend_pytest(folder: Path) -> Path:
    """A folder with links to pytest's packages, which are pure Python, so the host needs no installation of them."""
    folder.mkdir()
    for name in _PYTEST:
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
