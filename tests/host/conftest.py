"""A real ComfyUI at $COMFYUI_PATH or ~/ComfyUI: its own interpreter, and its server on a free loopback port."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 300  # a busy machine with two cores needs most of it
_INSIDE = "TI_INSIDE_HOST"  # set while pytest runs in the host's interpreter

# Tests in `inside` need the host's classes: test_inside.py runs them, in the host's interpreter.
collect_ignore = [] if _INSIDE in os.environ else ["inside"]


@dataclass(frozen=True)
class Host:
    """A checkout of ComfyUI and the interpreter that it is run with."""

    folder: Path
    python: Path


@dataclass(frozen=True)
class ComfyServer:
    """A running ComfyUI: where it listens, and its own temporary folders."""

    url: str
    base: Path
    """Holds custom_nodes, models, input, output."""
    temp: Path
    log: Path
    process: subprocess.Popen

    @property
    def address(self) -> str:
        """host:port, for WebSockets."""
        return self.url.removeprefix("http://")

    @property
    def embeddings(self) -> Path:
        return self.base / "models" / "embeddings"


@pytest.fixture(scope="session")
def comfyui() -> Host:
    """The host, or one line that says why the test is skipped."""
    folder = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "ComfyUI")
    if not (folder / "main.py").is_file():
        pytest.skip(f"no ComfyUI at {folder}; set COMFYUI_PATH to a checkout to run the host tests")
    candidates = [folder / venv / "bin" / "python" for venv in (".venv", "venv")]
    python = next((p for p in candidates if p.exists()), Path(sys.executable))
    return Host(folder, python)


@pytest.fixture(scope="session")
def comfy_server(comfyui: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """The host with this pack in its custom_nodes, started once for all tests that ask, and stopped after them.

    $COMFYUI_ARGS: its arguments instead of --cpu; empty for one that computes on a GPU.
    """
    with served(
        comfyui, tmp_path_factory.mktemp("comfyui"), *os.environ.get("COMFYUI_ARGS", "--cpu").split()
    ) as server:
        yield server


@contextlib.contextmanager
def served(comfyui: Host, base: Path, *arguments: str) -> Iterator[ComfyServer]:
    """A server with folders of its own under `base`, which runs while this lasts. Another one finds them again."""
    folders = ("checkpoints", "diffusion_models", "embeddings", "text_encoders", "vae")
    for name in ("custom_nodes", "input", "output", "user", "temp", *(f"models/{folder}" for folder in folders)):
        (base / name).mkdir(parents=True, exist_ok=True)
    if not (pack := base / "custom_nodes" / "textual-inversion").exists():
        pack.symlink_to(ROOT)
    port = _free_port()
    log = base / "server.log"
    command = [
        comfyui.python, "main.py", *arguments, "--port", port, "--disable-auto-launch", "--base-directory", base,
        "--user-directory", base / "user", "--temp-directory", base / "temp",
        "--database-url", f"sqlite:///{base / 'comfyui.db'}",
    ]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=comfyui.folder, stdout=output, stderr=output, env=quiet_environment()
        )
        try:
            server = ComfyServer(f"http://127.0.0.1:{port}", base, base / "temp", log, process)
            _wait_until_ready(server, process)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def quiet_environment() -> dict[str, str]:
    """The environment with one thread for each process: two that spin on two cores take ten times as long."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(server: ComfyServer, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urlopen(f"{server.url}/system_stats", timeout=5):
            return
        time.sleep(0.2)
    pytest.fail(f"ComfyUI did not start:\n{server.log.read_text(errors='replace')[-4000:]}")
