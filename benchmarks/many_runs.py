"""Whether a ComfyUI server that trains many times keeps the memory of one run, and what the runs take up on disk.

    python benchmarks/many_runs.py                  100 short trainings of the demo model, each with another seed
    python benchmarks/many_runs.py --kind found     the same training 100 times: all but the first are found on disk
    python benchmarks/many_runs.py --kind cached    the same prompt 100 times: the host does not ask the node again

A real server (--host, default ~/ComfyUI) runs the first template with fewer steps, word to picture. Every tenth run a
line: anonymous memory (heap: what a leak would fill), resident memory, and threads of the server. The growth is the
slope of the heap over the runs after the first ones (--warm-up), for 100 runs, against its level: the median of the
slopes between any two runs, because malloc gives memory back in leaps.

At the end the sizes of the runs' folders, as `textual-inversion runs --json` tells them and as the disk does.
Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "host"))
from comfy_client import ComfyClient
from conftest import ComfyServer, Host, served
from workflow_prompt import nodes_of, prompt_of

_ROOT = Path(__file__).resolve().parents[1]
_MIB = 1 << 20
_EVERY = 10  # runs for a line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", type=Path, default=Path.home() / "ComfyUI")
    parser.add_argument("--kind", choices=("new", "found", "cached"), default="new")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--warm-up", type=int, default=40, help="runs that do not count for the growth")
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Host(args.host, args.host / ".venv" / "bin" / "python"), Path(folder), "--cpu") as server,
        ComfyClient(server.url) as client,
    ):
        print("| runs | heap, MiB | resident, MiB | threads | seconds a run |")
        print("|---|---|---|---|---|")
        heap = measure(server, client, args)
        counted = heap[args.warm_up :]
        level = statistics.median(counted)
        print(f"Growth of the heap for 100 runs: {slope(counted) * 100 / level:+.2%} of {level:.0f} MiB")
        show_folders(server.base / "output" / "textual_inversion")


def measure(server: ComfyServer, client: ComfyClient, args: argparse.Namespace) -> list[float]:
    """MiB of the server's heap after each run."""
    (file,) = (_ROOT / "example_workflows").glob("1 *.json")
    prompt = prompt_of(json.loads(file.read_text("utf-8")), client.get("/object_info"))
    heap, began = [], time.monotonic()
    for number in range(1, args.runs + 1):
        change(prompt, args.kind, args.steps, number)
        ending = client.run(prompt).ending
        if ending != "execution_success":
            raise SystemExit(f"run {number}: {ending}\n{server.log.read_text(errors='replace')[-4000:]}")
        memory = memory_of(server.process.pid)
        heap.append(memory["Anonymous"])
        if number % _EVERY == 0:
            seconds = (time.monotonic() - began) / _EVERY
            began = time.monotonic()
            threads = len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))
            print(f"| {number} | {heap[-1]:.1f} | {memory['Rss']:.1f} | {threads} | {seconds:.2f} |", flush=True)
    return heap


def change(prompt: dict[str, Any], kind: str, steps: int, number: int) -> None:
    """Turns the prompt into the next one. A new seed is another run; how often previews are drawn is the same."""
    (train,), (sampler,) = nodes_of(prompt, "TI_Train"), nodes_of(prompt, "KSampler")
    prompt[sampler]["inputs"]["steps"] = 2
    every = steps + number if kind == "found" else steps
    prompt[train]["inputs"].update(steps=steps, preview_every=every, seed=number if kind == "new" else 0)


def slope(values: list[float]) -> float:
    """Theil and Sen's, for a step to the next value."""
    pairs = itertools.combinations(enumerate(values), 2)
    return statistics.median((later - earlier) / (end - start) for (start, earlier), (end, later) in pairs)


def memory_of(process: int) -> dict[str, float]:
    """MiB by the names of /proc/PID/smaps_rollup."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(size.split()[0]) * 1024 / _MIB for name, size in (line.split(":") for line in lines)}


def show_folders(root: Path) -> None:
    command = [sys.executable, "-m", "ti_engine", "runs", "--runs", root, "--json"]
    listed = json.loads(subprocess.run(command, cwd=_ROOT, capture_output=True, check=True).stdout)["runs"]
    files = [file for run in listed for file in (root / run["id"]).rglob("*") if file.is_file()]
    on_disk, told = sum(file.stat().st_size for file in files), sum(run["bytes"] for run in listed)
    folders = [file for file in root.iterdir() if not file.name.startswith(".")]
    print(f"{len(listed)} runs in {len(folders)} folders: {told:,} bytes as listed, {on_disk:,} in {len(files)} files")


if __name__ == "__main__":
    main()
