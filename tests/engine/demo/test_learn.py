"""`python -m ti_engine.demo`: the files that the demo writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from ti_engine.demo.learn import main as demo
from ti_engine.training.config import TrainConfig


def test_the_demo_writes_its_three_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"steps": 2, "batch_size": 2, "evaluate_every": 1, "resolution": 128}
    module: Any = sys.modules["ti_engine.demo.learn"]
    monkeypatch.setattr(module, "TrainConfig", lambda **changes: TrainConfig(**{**small, **changes}))
    monkeypatch.setattr(module, "SAMPLER_STEPS", 2)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second run replaces what the first one wrote
        assert demo() == 0
    assert sorted(f.name for f in Path("demo-output").iterdir()) == [
        "contact-sheet.png",
        "report.json",
        "word.safetensors",
    ]
    report = json.loads(Path("demo-output/report.json").read_text())
    assert report["steps"] == 2
    assert str(report["seconds_learning"]) in capsys.readouterr().out
