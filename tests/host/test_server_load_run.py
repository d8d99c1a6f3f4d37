"""Runs on disk on a real server: listed, loaded, picked from, and seen when they change or have gone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from PIL import Image

from .comfy_client import ComfyClient

pytestmark = pytest.mark.comfyui
sys.path.append(str(Path(__file__).resolve().parents[1] / "engine"))  # the toy backend

RUN_ID = "fedcba9876543210" * 2


@pytest.fixture(scope="module")
def client(comfy_server: Any) -> Iterator[ComfyClient]:
    with ComfyClient(comfy_server.url) as client:
        yield client


@pytest.fixture
def store(comfy_server: Any) -> Iterator[Any]:
    from ti_engine.run.store import RunStore

    store = RunStore(comfy_server.base / "output" / "textual_inversion")
    yield store
    if store.folder(RUN_ID).path.exists():
        store.delete(store.folder(RUN_ID))


def make_run(store: Any, until: int | None = None) -> Any:
    from toy_runs import toy_run

    return toy_run(store.root, RUN_ID, until, steps=6)


def entries(client: ComfyClient) -> list[str]:
    kind, *more = client.get("/object_info/TI_LoadRun")["TI_LoadRun"]["input"]["required"]["run"]
    return kind if isinstance(kind, list) else more[0]["options"]


def graph(entry: Any, step: int = 2, **more: dict[str, Any]) -> dict[str, Any]:
    """Load Run, Pick Step and Inspect Embedding."""
    pick = {"run": ["1", 0], "what": "step", "step": step, "first": -10, "prompts": "{}", "columns": 5, "seed": 0}
    return {
        "1": {"class_type": "TI_LoadRun", "inputs": {"run": entry}},
        "2": {"class_type": "TI_PickStep", "inputs": pick},
        "3": {"class_type": "TI_InspectEmbedding", "inputs": {"embedding": ["2", 0]}},
        **more,
    }


def test_a_run_is_listed_loaded_and_picked_from(client: ComfyClient, store: Any) -> None:
    saved = make_run(store)
    (entry,) = (one for one in entries(client) if one.endswith(", 6 steps, fedcba98"))
    run = client.run(graph(entry))
    assert run.ending == "execution_success", run.events[-1]
    norm = float(saved.record.trajectory[2]["clip_l"].norm())
    assert f"  1: {norm:.4g}\n" in run.outputs["3"]["text"][0]
    assert f"in the folder textual_inversion/{RUN_ID} of the output folder." in run.outputs["1"]["text"][0]
    assert f"the vectors after step 2 of the run {RUN_ID}" in run.outputs["2"]["text"][0]
    again = client.run(graph(entry))
    assert again.ending == "execution_success" and again.cached >= {"1", "2", "3"}


def test_a_run_that_has_gone_on_is_loaded_again_by_its_old_entry(client: ComfyClient, store: Any) -> None:
    make_run(store, until=4)
    (entry,) = (one for one in entries(client) if one.endswith(", 4 of 6 steps, fedcba98"))
    reports = [client.run(graph(entry, step=-1)).outputs["2"]["text"][0]]
    make_run(store)
    reports.append(client.run(graph(entry, step=-1)).outputs["2"]["text"][0])
    assert "after step 4 of" in reports[0] and "after step 6 of" in reports[1]


def test_a_page_reads_a_run_and_its_pictures_by_the_id_in_its_entry(client: ComfyClient, store: Any) -> None:
    run = make_run(store).folder
    for step in (0, 3, None):
        file = run.preview_file(step)
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (10 * (step or 5), 0, 0)).save(file)
    (entry,) = (one for one in entries(client) if one.endswith(", 6 steps, fedcba98"))
    listed = client.get("/textual_inversion/saved_runs")
    assert len(listed) <= 12 and [one["entry"] for one in listed] == entries(client)[:12]
    (one,) = (one for one in listed if one["entry"] == entry)
    assert entry.startswith(f"{one['word']}, {one['date']}, {one['steps']}, ") and one["run"] == RUN_ID
    for name in (RUN_ID, "fedcba98"):
        told = client.get(f"/textual_inversion/runs/{name}")
        assert (told["run"], told["state"], told["step"], told["steps"]) == (RUN_ID, "done", 6, 6)
        assert [picture["step"] for picture in told["pictures"]] == [0, 3, None]
        assert told["pictures"][-1] == one["picture"]
    places = [{name: str(value) for name, value in picture.items()} for picture in told["pictures"]]
    shown = client.pictures({"images": places})
    assert [picture.getpixel((0, 0)) for picture in shown] == [(50, 0, 0), (30, 0, 0), (50, 0, 0)]


@pytest.mark.parametrize(
    "name", ["0" * 32, "fedcba9", "fedcba98/..", "..%2ffedcba98", "..%2f..%2f..", "%2e", "*", "FEDCBA98", "config.json"]
)
def test_what_is_not_the_id_of_a_run_is_not_found(client: ComfyClient, store: Any, name: str) -> None:
    make_run(store)
    with pytest.raises(HTTPError) as refused:
        client.get(f"/textual_inversion/runs/{name}")
    assert refused.value.code in (404, 405)


def test_why_a_run_is_not_shown_is_said(client: ComfyClient, store: Any) -> None:
    run = make_run(store).folder

    def said(name: str) -> str:
        with pytest.raises(HTTPError) as refused:
            client.get(f"/textual_inversion/runs/{name}")
        assert refused.value.code == 404
        return json.loads(refused.value.read())["sentence"]

    assert said("no%20run%20on%20disk").startswith("There is no run on disk yet.")
    run.config_file.unlink()
    assert said(RUN_ID) == f"The run {RUN_ID} cannot be read: config.json is damaged or missing."
    run.state_file.write_bytes(b"")
    assert said("fedcba98").startswith(f"The run {RUN_ID} cannot be read: ")
    store.delete(run)
    assert said("fedcba98") == "The run 'fedcba98' is not on disk any more. Press R and choose another one."


@pytest.mark.parametrize("entry", ["S*, 2026-01-01 10:00, 6 steps, 00000000", "../../input", "no run on disk"])
def test_an_entry_that_leads_nowhere_is_said_before_anything_runs(client: ComfyClient, store: Any, entry: str) -> None:
    make_run(store)
    with pytest.raises(HTTPError) as refused:
        client.run(graph(entry))
    said = json.loads(refused.value.read())["node_errors"]["1"]["errors"][0]["details"]
    expected = "There is no run on disk yet." if entry == "no run on disk" else f"The run '{entry}' is not on disk"
    assert expected in said


def test_a_step_that_the_run_does_not_have_is_said(client: ComfyClient, store: Any) -> None:
    make_run(store)
    run = client.run(graph(RUN_ID, step=7))
    assert run.ending == "execution_error"
    assert run.events[-1][1]["exception_message"].strip() == "The run has no step 7: its steps go from 0 to 6."


def test_a_sheet_that_cannot_be_drawn_is_said_where_it_is_wanted(client: ComfyClient, store: Any) -> None:
    make_run(store)
    show = {"class_type": "PreviewImage", "inputs": {"images": ["2", 1]}}
    run = client.run(graph(RUN_ID, **{"9": show}))
    (blocked,) = run.of("execution_error")
    assert "connect model, clip and vae" in blocked["exception_message"] and blocked["node_id"] == "9"
