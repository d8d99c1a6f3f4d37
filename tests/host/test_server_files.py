"""Embedding files on a real server: listed, chosen, read again when they change, saved, and shown by the host."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import pytest
import torch

from .comfy_client import ComfyClient

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def client(comfy_server: Any) -> Iterator[ComfyClient]:
    with ComfyClient(comfy_server.url) as client:
        yield client


def graph(file: Any, **more: dict[str, Any]) -> dict[str, Any]:
    """Load Embedding and Inspect Embedding."""
    load = {"class_type": "TI_LoadEmbedding", "inputs": {"file": file, "placeholder": "S*"}}
    return {"1": load, "2": {"class_type": "TI_InspectEmbedding", "inputs": {"embedding": ["1", 0]}}, **more}


def write(comfy_server: Any, name: str, length: float) -> None:
    """A word by A1111 of two vectors whose norm is `length`."""
    file = comfy_server.embeddings / name
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = torch.zeros(2, 768)
    rows[:, 3] = length
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": rows}, "name": "x", "step": 9}, file)


def test_a_file_is_listed_read_and_read_again_when_it_changes(client: ComfyClient, comfy_server: Any) -> None:
    name = "pets/my cat, v1.5.pt"
    write(comfy_server, name, 4)
    kind, *more = client.get("/object_info/TI_LoadEmbedding")["TI_LoadEmbedding"]["input"]["required"]["file"]
    assert name in (kind if isinstance(kind, list) else more[0]["options"])
    runs = [client.run(graph(name)) for _ in range(2)]
    write(comfy_server, name, 5)
    runs.append(client.run(graph(name)))
    assert [run.ending for run in runs] == ["execution_success"] * 3
    assert [run.cached >= {"1", "2"} for run in runs] == [False, True, False]
    reports = ["".join(run.outputs["2"]["text"]) for run in (runs[0], runs[2])]
    assert "  1: 4\n  2: 4\n" in reports[0] and "  1: 5\n  2: 5\n" in reports[1]


@pytest.mark.parametrize("name", ["../../outside.pt", "/etc/hostname", "pets/../../../outside.pt", "not there.pt"])
def test_a_name_that_is_not_listed_is_not_read(name: str, client: ComfyClient, comfy_server: Any) -> None:
    """Most hosts refuse the graph; 0.3.64 runs it, and the node refuses the name without looking."""
    write(comfy_server, "../../outside.pt", 1)
    try:
        run = client.run(graph(name))
    except HTTPError as error:
        assert error.code == 400
        return
    assert run.ending == "execution_error" and not run.outputs
    said = run.events[-1][1]["exception_message"]
    assert "leads out of the embeddings folders" in said or name == "not there.pt", said


def test_a_saved_word_is_shown_by_the_host(client: ComfyClient, comfy_server: Any) -> None:
    write(comfy_server, "plain.pt", 2)
    save = {"class_type": "TI_SaveEmbedding", "inputs": {"embedding": ["1", 0], "name": "saved/here"}}
    run = client.run(graph("plain.pt", **{"3": save}))
    assert run.ending == "execution_success" and "embedding:saved/here" in run.outputs["3"]["text"][0]
    said = client.get(f"/view_metadata/embeddings?{urlencode({'filename': 'saved/here.safetensors'})}")
    assert said["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"
    assert said["modelspec.title"] == said["modelspec.trigger_phrase"] == "S*"
    assert "saved/here" in client.get("/embeddings")
    assert str(comfy_server.base) not in json.dumps(said)


def test_a_saved_file_that_has_gone_is_saved_again_and_once(client: ComfyClient, comfy_server: Any) -> None:
    write(comfy_server, "plain.pt", 2)
    prompt = graph(
        "plain.pt", **{"3": {"class_type": "TI_SaveEmbedding", "inputs": {"embedding": ["1", 0], "name": "lost/x"}}}
    )
    file = comfy_server.embeddings / "lost" / "x.safetensors"
    is_cached = []
    for is_deleted in (False, False, True, False):
        if is_deleted:
            file.unlink()
        is_cached.append("3" in client.run(prompt).cached)
        assert [path.name for path in file.parent.iterdir()] == ["x.safetensors"]
    assert is_cached == [False, True, False, True]
