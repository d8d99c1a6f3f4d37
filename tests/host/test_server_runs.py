"""What a person does to a running training on a real server costs nothing that was learned."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import torch
from websocket import WebSocketException

from ti_engine.run.folder import SavedRun
from ti_engine.run.store import RunStore

from .comfy_client import ComfyClient, Run
from .conftest import ComfyServer, Host, served
from .test_server import only_node, steps_of, template

pytestmark = pytest.mark.comfyui

STEPS = 14


@pytest.fixture(scope="module")
def client(comfy_server: ComfyServer) -> Iterator[ComfyClient]:
    with ComfyClient(comfy_server.url) as client:
        yield client


def newest(base: Path) -> SavedRun:
    store = RunStore(base / "output" / "textual_inversion")
    saved = store.runs()[0].folder.read()
    assert saved is not None
    return saved


def assert_equal(first: SavedRun, second: SavedRun) -> None:
    assert first.finished and second.finished
    assert first.record.losses == second.record.losses and first.record.evaluations == second.record.evaluations
    for mine, other in zip(first.record.trajectory.values(), second.record.trajectory.values(), strict=True):
        assert all(torch.equal(mine[key], other[key]) for key in mine)


def trained_steps(run: Run) -> list[int]:
    return [event["step"] for event in steps_of(run) if event["step"] >= 0 and event["state"] == "running"]


def report_of(run: Run, prompt: dict[str, Any]) -> str:
    return run.outputs[only_node(prompt, "PreviewAny")]["text"][0]


def at_step(number: int, act: Any) -> Any:
    """Listens to a run: `act(message)` once it has reached a step."""
    acted = []

    def listen(kind: str, data: dict[str, Any]) -> None:
        if kind == "textual_inversion.step" and data["step"] >= number and not acted:
            acted.append(data)
            act(data)

    return listen


def test_a_killed_server_goes_on_to_the_bit(comfyui: Host, client: ComfyClient, comfy_server: Any, tmp_path: Path):
    def prompt(at: ComfyClient) -> dict[str, Any]:
        return template(at, 1, seed=31, steps=40)

    assert client.run(prompt(client)).ending == "execution_success"
    whole = newest(comfy_server.base)
    base = tmp_path / "a host with späces"

    def kill_once_some_steps_are_on_disk(kind: str, data: dict[str, Any]) -> None:
        if kind == "textual_inversion.step" and 0 < data["step"] < 40 and newest(base).step >= 3:
            server.process.kill()

    with (
        served(comfyui, base, "--cpu") as server,
        ComfyClient(server.url) as doomed,
        pytest.raises((WebSocketException, OSError)),
    ):
        doomed.run(prompt(doomed), on_event=kill_once_some_steps_are_on_disk)
    broken = newest(base)
    assert 3 <= broken.step < 40 and not broken.finished
    with served(comfyui, base, "--cpu") as server, ComfyClient(server.url) as after:
        message = after.get(f"/textual_inversion/runs/{newest_id(base)}")
        assert message["step"] == broken.step and len(message["batches"]) == broken.step
        run = after.run(prompt(after))
        assert run.ending == "execution_success"
        assert min(event["step"] for event in steps_of(run) if event["step"] >= 0) >= broken.step
        assert_equal(whole, newest(base))
        again = after.run({**prompt(after), "extra": {"class_type": "TI_LoadDemoModel", "inputs": {}}})
        assert again.ending == "execution_success"


def newest_id(base: Path) -> str:
    return RunStore(base / "output" / "textual_inversion").runs()[0].folder.id


def test_a_cancelled_run_goes_on_after_other_workflows(client: ComfyClient, comfy_server: ComfyServer):
    prompt = template(client, 1, seed=32, steps=STEPS)
    cancelled = client.run(prompt, on_event=at_step(4, lambda _: client.post("/interrupt", {})))
    assert cancelled.ending == "execution_interrupted"
    last = steps_of(cancelled)[-1]
    assert last["state"] == "cancelled" and "Run goes on" in last["sentence"]
    for seed in (33, 34):  # two others in between
        assert client.run(template(client, 1, seed=seed, steps=2)).ending == "execution_success"
    run = client.run(prompt)
    assert run.ending == "execution_success"
    assert min(event["step"] for event in steps_of(run) if event["step"] >= 0) >= 4
    store = RunStore(comfy_server.base / "output" / "textual_inversion")
    saved = store.folder(last["run"]).read()
    assert saved is not None and saved.finished and len(saved.record.losses) == STEPS


def test_stop_and_keep_is_a_route(client: ComfyClient):
    prompt = template(client, 1, seed=35, steps=200)
    run = client.run(
        prompt, on_event=at_step(3, lambda event: client.post(f"/textual_inversion/runs/{event['run']}/stop", {}))
    )
    assert run.ending == "execution_success"
    last = steps_of(run)[-1]
    assert last["state"] == "done" and 3 <= last["step"] < 200 and "Stopped by hand" in last["stopped"]
    assert only_node(prompt, "SaveImage") in run.outputs  # what comes after it ran with the word


@pytest.mark.parametrize(
    ("run", "wish", "status"),
    [("0" * 32, "stop", 404), ("../../etc", "stop", 404), ("%2e%2e", "stop", 404), ("0" * 32, "delete", 404)],
)
def test_wishes_for_runs_that_are_not_there(client: ComfyClient, run: str, wish: str, status: int):
    with pytest.raises(HTTPError) as refused:
        client.post(f"/textual_inversion/runs/{run}/{wish}", {})
    assert refused.value.code in (status, 405)


def test_two_clients_at_once_train_once(client: ComfyClient, comfy_server: ComfyServer):
    prompt = template(client, 1, seed=36, steps=5)
    with ComfyClient(comfy_server.url) as other:
        other.queue(prompt)
        run = client.run(prompt)
    assert run.ending == "execution_success"
    assert not [event for event in steps_of(run) if 0 <= event["step"] < 5 and event["prompt_id"] == run.prompt_id]


@pytest.mark.parametrize("seeds", [(37, 37), (38, 39)])
def test_a_batch_count_of_2_trains_once_for_each_seed(
    client: ComfyClient, comfy_server: ComfyServer, seeds: tuple[int, int]
):
    """The page queues the graph twice at once; where the seed changes after each, they differ by it."""
    store = RunStore(comfy_server.base / "output" / "textual_inversion")
    before = set(store.ids())
    first, second = (template(client, 1, seed=seed, steps=5) for seed in seeds)
    client.queue(first)
    run = client.run(second)
    assert run.ending == "execution_success"
    assert bool(trained_steps(run)) == (seeds[0] != seeds[1])
    new = [store.folder(one).read() for one in set(store.ids()) - before]
    assert len(new) == len(set(seeds)) and all(saved is not None and saved.finished for saved in new)


@pytest.fixture
def small_disk(comfy_server: ComfyServer) -> Iterator[Path]:
    """The server's folder of runs, empty and on a disk of its own with 1 MB; what was there comes back afterwards."""
    folder = comfy_server.base / "output" / "textual_inversion"
    folder.mkdir(exist_ok=True)
    if shutil.which("mount") is None:
        pytest.skip("no disk can be made here: there is no mount command")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be made here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_full_disk_which_is_another_one_than_that_of_temporary_files(client: ComfyClient, small_disk: Path):
    """Each run gives its word and says what is not on disk; with room again, it goes on from what is."""
    begun, new = template(client, 1, seed=40, steps=8), template(client, 1, seed=41, steps=3)
    cancelled = client.run(begun, on_event=at_step(3, lambda _: client.post("/interrupt", {})))
    assert cancelled.ending == "execution_interrupted"
    folder = RunStore(small_disk).runs()[0].folder
    on_disk = newest(small_disk.parents[1])
    before = contents(folder.path)
    filling = small_disk / "filling"
    with filling.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))

    in_memory = client.run(begun)
    assert in_memory.ending == "execution_success" and only_node(begun, "SaveImage") in in_memory.outputs
    assert min(trained_steps(in_memory)) == on_disk.step
    sentence = f"The run is not on disk after step {on_disk.step}: "
    assert sentence in report_of(in_memory, begun) and "because the disk is full" in report_of(in_memory, begun)
    assert contents(folder.path) == before
    run = client.run(new)
    assert run.ending == "execution_success" and only_node(new, "SaveImage") in run.outputs
    assert "The run is not on disk: " in report_of(run, new) and "because the disk is full" in report_of(run, new)
    assert contents(folder.path) == before

    filling.unlink()
    again = client.run(begun)
    assert again.ending == "execution_success" and min(trained_steps(again)) == on_disk.step
    saved = folder.read()
    assert saved is not None and saved.finished
    assert steps_of(again)[-1]["batches"] == steps_of(in_memory)[-1]["batches"]
    assert "not on disk" not in report_of(again, begun)
    assert client.run(new).ending == "execution_success"
    assert [run.facts["finished"] for run in RunStore(small_disk).runs()] == [True, True]
