"""Large models on a GPU, through the host's server and its own loaders, in little memory too. Skipped without one.

    TI_CARD=1 pytest tests/host/test_card.py -s       some minutes, 60 GB of memory and 25 GB of disk

TI_CARD_FILES names a folder with files that an earlier run has written. TI_CARD=small tries the same with a few layers
on the CPU. Weights are random: nothing is learned that means anything.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .comfy_client import ComfyClient, Run
from .conftest import Host, quiet_environment, served

_CARD = os.environ.get("TI_CARD")
pytestmark = [pytest.mark.comfyui, pytest.mark.skipif(not _CARD, reason="needs a GPU and minutes: set TI_CARD=1")]
HERE = Path(__file__).resolve().parent
GIB = 2**30
SMALL = _CARD == "small"
PLAIN = ("--disable-dynamic-vram",)
_HOLD = """
import sys, torch
free, _ = torch.cuda.mem_get_info()
held = torch.empty(free - int(sys.argv[1]), dtype=torch.uint8, device="cuda")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def files(comfyui: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights as files, in the folders where the host looks for them."""
    if written := os.environ.get("TI_CARD_FILES"):
        return Path(written)
    folder = tmp_path_factory.mktemp("weights")
    write(comfyui, "sd15", folder / "sd15.safetensors")
    write(comfyui, "flux", folder, *(("depth=1", "depth_single_blocks=1") if SMALL else ()))
    if not SMALL:
        write(comfyui, "sdxl", folder / "sdxl.safetensors")
    return folder


def write(comfyui: Host, *arguments: object) -> None:
    command = [comfyui.python, HERE / "inside" / "true_weights.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(comfyui.folder), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([str(part) for part in command], cwd=comfyui.folder, env=environment, check=True)


@contextlib.contextmanager
def little_memory(comfyui: Host, gib: float | None) -> Iterator[None]:
    """Another process holds all of the GPU's memory but so much while this lasts."""
    if gib is None or SMALL:
        yield
        return
    command = [str(comfyui.python), "-c", _HOLD, str(int(gib * GIB))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.kill()


@contextlib.contextmanager
def client_of(comfyui: Host, base: Path, files: Path, gib: float | None, arguments: tuple[str, ...]) -> Iterator[Any]:
    arguments = ("--cpu",) if SMALL else arguments
    with little_memory(comfyui, gib), served(comfyui, base, *arguments) as server:
        for file in files.iterdir():
            kinds = {"unet": "diffusion_models", "ae": "vae", "clip_l": "text_encoders", "t5xxl": "text_encoders"}
            folder = kinds.get(file.stem.removeprefix("flux_"), "checkpoints")
            (server.base / "models" / folder / file.name).symlink_to(file)
        with ComfyClient(server.url) as client:
            try:
                yield client
            finally:
                print(server.log.read_text(errors="replace")[-6000:], file=sys.stderr)


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def loaders(model: str) -> dict[str, Any]:
    """The nodes that load it, and where its three sockets are."""
    if model != "flux":
        checkpoint = node("CheckpointLoaderSimple", ckpt_name=f"{model}.safetensors")
        return {"1": checkpoint, "sockets": dict(model=["1", 0], clip=["1", 1], vae=["1", 2])}
    encoders = {f"clip_name{n}": f"flux_{name}.safetensors" for n, name in ((1, "clip_l"), (2, "t5xxl"))}
    return {
        "1": node("UNETLoader", unet_name="flux_unet.safetensors", weight_dtype="fp8_e4m3fn"),
        "2": node("DualCLIPLoader", **encoders, type="flux", device="default"),
        "3": node("VAELoader", vae_name="flux_ae.safetensors"),
        "sockets": dict(model=["1", 0], clip=["2", 0], vae=["3", 0]),
    }


def prompt_for(model: str, resolution: int, batch_size: int, steps: int) -> dict[str, Any]:
    """Learn a word, and draw a picture with it."""
    prompt = loaders(model)
    sockets = prompt.pop("sockets")
    pictures = {
        str(10 + n): node("EmptyImage", width=640, height=512, batch_size=1, color=99 << 8 * n) for n in range(3)
    }
    names = ("images", "images_2", "images_3")
    train = node(
        "TI_Train", **sockets, **{name: [id_, 0] for name, id_ in zip(names, pictures, strict=True)}, steps=steps,
        learning_rate=0.01, batch_size=batch_size, num_vectors=1, initial_words="cat", placeholder="S*", what="object",
        seed=1, resolution=resolution, preview_every=0,
    )  # fmt: skip
    clip = sockets["clip"]
    encoded = node("TI_EncodePrompt", clip=clip, embedding=["20", 0], text="a photo of S* on a beach")
    size = dict(width=resolution, height=resolution, batch_size=1)
    sampler = node(
        "KSampler", model=sockets["model"], positive=["22", 0], negative=["23", 0], latent_image=["24", 0], seed=1,
        steps=2, cfg=1.0, sampler_name="euler", scheduler="simple", denoise=1.0,
    )  # fmt: skip
    return prompt | pictures | {
        "20": train, "21": node("PreviewAny", source=["20", 3]), "22": encoded,
        "23": node("CLIPTextEncode", clip=clip, text=""), "24": node("EmptyLatentImage", **size), "25": sampler,
        "26": node("VAEDecode", samples=["25", 0], vae=sockets["vae"]), "27": node("PreviewImage", images=["26", 0]),
    }  # fmt: skip


def report_of(run: Run) -> str:
    assert run.ending == "execution_success", run.events[-1]
    return run.outputs["21"]["text"][0]


CASES = [
    # what, side, batch, steps, GiB that are free (None: all), the server's arguments, whether the models fit
    ("sd15", 512, 8, 20, None, (), True),
    ("flux", 1024, 1, 3, 16, (), False),
    ("sdxl", 1024, 1, 5, 8, PLAIN, False),
    ("flux", 1024, 1, 3, None, (), True),
    ("flux", 1024, 1, 3, 16, PLAIN, False),
    ("sd15", 512, 4, 5, 4, (), True),
]


@pytest.mark.parametrize(("model", "resolution", "batch_size", "steps", "gib", "arguments", "fits"), CASES)
def test_a_word(
    model: str, resolution: int, batch_size: int, steps: int, gib: float | None, arguments: tuple[str, ...],
    fits: bool, comfyui: Host, files: Path, tmp_path: Path,
) -> None:  # fmt: skip
    if SMALL and (model == "sdxl" or gib):
        pytest.skip("not in small")
    side, steps = (64, 2) if SMALL else (resolution, steps)
    with client_of(comfyui, tmp_path / "base", files, gib, arguments) as client, open_peak(tmp_path) as peak:
        starts: list[float] = []
        run = client.run(
            prompt_for(model, side, batch_size if not SMALL else 1, steps),
            timeout=600,
            on_event=lambda kind, _: starts.append(time.monotonic()) if kind == "textual_inversion.step" else None,
        )
        report = report_of(run)
        print(f"\n=== {model} {side} px x {batch_size}, {gib or 'all'} GiB free, {arguments}\n{report}")
        print(f"{len(starts)} messages of steps in {starts[-1] - starts[0]:.1f} s; {peak()}")
        assert client.pictures(run.outputs["27"])
        if not SMALL:
            assert ("stay in system memory" not in report) is fits
            assert "cuda" in report


@contextlib.contextmanager
def open_peak(folder: Path) -> Iterator[Any]:
    """A function that tells the most memory of the GPU that was in use."""
    if SMALL:
        yield lambda: ""
        return
    command = ["nvidia-smi", "-lms", "50", "--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"]
    with (folder / "peak").open("w") as out, subprocess.Popen(command, stdout=out, env=quiet_environment()) as process:

        def peak() -> str:
            used = [line.split(",") for line in (folder / "peak").read_text().splitlines() if line.count(",") == 1]
            first, most = int(used[0][0]), max(int(row[0]) for row in used)
            return f"{(most - first) / 1024:.2f} GiB above what was in use before, {int(used[0][1]) - most} MiB left"

        try:
            yield peak
        finally:
            process.kill()
