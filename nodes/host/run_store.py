"""Where the host keeps the runs."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...ti_engine.run.store import RunStore


def run_store() -> RunStore:
    """In the host's output folder."""
    return RunStore(Path(folder_paths.get_output_directory()) / "textual_inversion")
