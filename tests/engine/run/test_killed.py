"""A run that is killed with SIGKILL in any moment and goes on is bit for bit the run that was never broken.

The moments are those of benchmarks/reliability.py, which takes more of them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and killed")


@pytest.mark.parametrize("model", ["toy", "demo"])
def test_a_killed_run_goes_on_to_the_bit(model: str, tmp_path: Path):
    if model == "demo":
        pytest.importorskip("diffusers")
    command = [sys.executable, str(ROOT / "benchmarks" / "reliability.py"), "--model", model, "--moments", "12"]
    command += ["--only", "every step", "--json", "--folder", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    losses = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(losses) == 12 and len({loss["where"] for loss in losses}) == 6
    assert any(loss["at_step"] > 1 for loss in losses)
    assert max(loss["lost"] for loss in losses) <= 1  # where a step takes longer than writing it, as for large models
