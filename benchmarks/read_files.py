"""What reading embedding files costs: 1,000 small files in a row, and the memory for one file of each container.

    python benchmarks/read_files.py

Wanted: the thousand in less than 2 s, and for one file never more memory than its size and 64 MB. Memory is the rise of
the peak of a fresh process (Linux: VmHWM) from before the reading, with all modules loaded, to its end.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from ti_engine.files import read_embedding_file, save_embedding
from ti_engine.word.embedding import TokenEmbedding

NUM_FILES = 1000
MAX_SECONDS = 2.0
MAX_EXTRA = 64_000_000  # bytes beyond the file's size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", metavar="FILE", help="read this file only and print the rise of the peak in bytes")
    arguments = parser.parse_args()
    if arguments.one:
        print(peak_rise(Path(arguments.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        good = report_small_files(Path(folder)) & report_memory(Path(folder))
    raise SystemExit(0 if good else 1)


def report_small_files(folder: Path) -> bool:
    files = [write_small(folder, number) for number in range(NUM_FILES)]
    start = time.perf_counter()
    for file in files:
        read_embedding_file(file)
    seconds = time.perf_counter() - start
    print(f"{NUM_FILES} small files: {seconds:.2f} s (wanted: {MAX_SECONDS})")
    return seconds < MAX_SECONDS


def write_small(folder: Path, number: int) -> Path:
    """A word of two vectors as A1111, diffusers and this project write it, in turns."""
    rows = torch.randn(2, 768)
    if number % 3 == 0:
        file = folder / f"{number}.pt"
        torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": rows}, "name": "x", "step": 9}, file)
    elif number % 3 == 1:
        file = folder / f"{number}.bin"
        torch.save({"<cat>": rows}, file)
    else:
        file = folder / f"{number}.safetensors"
        save_embedding(TokenEmbedding({"clip_l": rows}), file)
    return file


def report_memory(folder: Path) -> bool:
    good = True
    for file in write_large(folder):
        command = [sys.executable, __file__, "--one", str(file)]
        rise = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        size = file.stat().st_size
        good &= rise <= size + MAX_EXTRA
        print(
            f"{file.name}: {size / 1e6:.1f} MB, {rise / 1e6:.1f} MB of memory (wanted: {(size + MAX_EXTRA) / 1e6:.1f})"
        )
    return good


def write_large(folder: Path) -> list[Path]:
    """The most that is read of each container: 512 vectors of the widest encoder, and words in a LoRA of 200 MB."""
    rows = torch.randn(512, 5120)
    files = [folder / name for name in ("word.safetensors", "word.pt", "lora.safetensors", "word.png")]
    save_file({"emb_params": rows}, files[0])
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": rows}, "name": "x", "step": 9}, files[1])
    lora = {f"lora_unet_{n}.lora_up.weight": torch.zeros(1000, 1000) for n in range(50)}
    save_file({"bundle_emb.<cat>.clip_l": rows[:, :768].contiguous(), **lora}, files[2])
    save_embedding(TokenEmbedding({"clip_l": torch.randn(75, 768)}), files[3])
    return files


def peak_rise(file: Path) -> int:
    before = peak_memory()
    read_embedding_file(file)
    return peak_memory() - before


def peak_memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


if __name__ == "__main__":
    main()
