"""A hundred runs in one process."""

import gc
from pathlib import Path

import pytest
from kept_runs import go_on, wide
from toy import toy_config

from ti_engine.run.store import RunStore

STATUS = Path("/proc/self/status")


def resident() -> int:
    """KB of this process's memory."""
    gc.collect()
    return int(next(line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS")).split()[1])


@pytest.mark.skipif(not STATUS.is_file(), reason="the system does not tell how much memory a process has")
def test_memory_and_folder_stay_within_their_limits(tmp_path: Path):
    store, limit = RunStore(tmp_path), 2e6
    before = 0
    for seed in range(120):
        run = go_on(store, toy_config(seed=seed, steps=6, num_vectors=8), backend=wide())
        if seed % 10 == 9:
            store.shrink(limit, spared=run.id)
            assert sum(file.stat().st_size for file in tmp_path.glob("[0-9a-f]*/**/*") if file.is_file()) <= limit
        if seed == 19:  # after what is loaded and reserved once
            before = resident()
    assert resident() < 1.01 * before
