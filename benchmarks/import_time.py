"""How long ComfyUI takes to load this pack: the best of five fresh processes, beside what the host itself imports.

COMFYUI_PATH=... python benchmarks/import_time.py      (default ~/ComfyUI; its own interpreter is used)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
_INSIDE = """
import sys, time
sys.argv = ["main.py", "--cpu"]
import comfy.options; comfy.options.enable_args_parsing()
import asyncio, nodes
# What the host loads itself, now or with the first pack that has a pyproject.toml:
import comfy.samplers, comfy.sd, comfy.taesd.taesd, comfy_api.latest, comfy_execution.utils
from comfy_config import config_parser
from PIL import Image, ImageDraw, ImageFont, ImageOps
before = set(sys.modules)
start = time.perf_counter()
ok = asyncio.run(nodes.load_custom_node(sys.stdin.readline().strip()))
seconds = time.perf_counter() - start
new = sorted({name.split(".")[0] for name in set(sys.modules) - before if "textual" not in name and "main" not in name})
print(f"RESULT {ok} {seconds:.4f} {','.join(new)}")
"""


def main() -> None:
    folder = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "ComfyUI")
    candidates = [folder / venv / "bin" / "python" for venv in (".venv", "venv")]
    python = next((p for p in candidates if p.exists()), Path(sys.executable))
    results = []
    for _ in range(ROUNDS):
        run = subprocess.run(
            [str(python), "-c", _INSIDE], input=f"{ROOT}\n", cwd=folder, capture_output=True, text=True, check=True
        )
        line = next(line for line in run.stdout.splitlines() if line.startswith("RESULT"))
        _, ok, seconds, *modules = line.split(" ")
        if ok != "True":
            raise SystemExit(f"The host could not load the pack:\n{run.stderr}")
        results.append((float(seconds), modules))
    seconds, modules = min(results)
    print(f"{seconds:.3f} s; other top-level modules that it brings in: {modules[0] if modules else 'none'}")


if __name__ == "__main__":
    main()
