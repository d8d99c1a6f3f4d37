"""Ctrl-C while the engine is imported, and an import that leaves Ctrl-C and torch alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def interruptible() -> None:
    """For a child process: Ctrl-C reaches it, also where the tests run in the background and ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_while_torch_is_imported_is_one_sentence() -> None:
    ours = [sys.executable, "-X", "importtime", "-m", "ti_engine", "train", "--help"]
    pipe = subprocess.PIPE
    with subprocess.Popen(ours, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, preexec_fn=interruptible) as process:
        assert process.stderr is not None
        assert any("| " in line and " torch." in line for line in process.stderr)  # reads until the first part of it
        process.send_signal(signal.SIGINT)
        said = [line for line in process.stderr if not line.startswith("import time:") and line.strip()]
    assert said == ["textual-inversion: stopped; nothing was written.\n"]
    assert process.returncode == 130


def test_importing_the_engine_loads_no_torch_and_leaves_ctrl_c_alone() -> None:
    code = (
        "import signal, sys, ti_engine, ti_engine.cli\n"
        "print('torch' in sys.modules, signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
        "from ti_engine import TrainConfig\n"
        "print('torch' in sys.modules)\n"
        "try: ti_engine.cli.main(['train', '--help'])\n"
        "except SystemExit: print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, preexec_fn=interruptible
    )
    first, second, *_, last = done.stdout.splitlines()
    assert (first, second, last) == ("False True", "False", "True"), done.stderr
