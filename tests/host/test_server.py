"""The templates on a real server, through the API that pages and programs use."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .comfy_client import ComfyClient, Run
from .workflow_prompt import nodes_of, prompt_of

pytestmark = pytest.mark.comfyui

TEMPLATES = Path(__file__).resolve().parents[2] / "example_workflows"
STEPS = 12
PREVIEW_EVERY = 6
SECONDS_TO_CANCEL = 10  # a step and a message; generous because test machines are busy


@pytest.fixture(scope="module")
def client(comfy_server: Any) -> Iterator[ComfyClient]:
    with ComfyClient(comfy_server.url) as client:
        yield client


def template(client: ComfyClient, number: int, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """A template as a prompt with a short training. Another seed keeps tests from finding each other's word cached."""
    (file,) = TEMPLATES.glob(f"{number} *.json")
    prompt = prompt_of(json.loads(file.read_text("utf-8")), client.get("/object_info"))
    for node in nodes_of(prompt, "TI_Train"):
        prompt[node]["inputs"].update(steps=steps, preview_every=PREVIEW_EVERY, seed=seed)
    for node in nodes_of(prompt, "KSampler"):
        prompt[node]["inputs"]["steps"] = 4
    return prompt


def only_node(prompt: dict[str, Any], class_type: str) -> str:
    (node,) = nodes_of(prompt, class_type)
    return node


def steps_of(run: Run) -> list[dict[str, Any]]:
    return run.of("textual_inversion.step")


def test_template_1_learns_shows_and_does_not_train_twice(client: ComfyClient) -> None:
    prompt = template(client, 1, seed=1)
    train = only_node(prompt, "TI_Train")
    run = client.run(prompt)
    assert run.ending == "execution_success", run.events[-1]

    pictures = client.pictures(run.outputs[only_node(prompt, "SaveImage")])
    assert [picture.size for picture in pictures] == [(128, 128)] * 4
    report = next(shown["text"][0] for node, shown in run.outputs.items() if prompt[node]["class_type"] == "PreviewAny")
    assert report.startswith("S*:")

    events = steps_of(run)
    assert {event["node"] for event in events} == {train}
    assert events[0]["step"] == -1 and events[-1]["step"] == STEPS
    assert [event["state"] for event in events] == ["running"] * (len(events) - 1) + ["done"]
    for event in events:  # each holds all that was known by then
        assert [step for step, _ in event["batches"]] == list(range(1, event["step"] + 1))
    assert [step for step, _ in events[-1]["evaluations"]] == [0, STEPS]
    assert [client.get("/textual_inversion/runs")[-1]] == events[-1:]  # for a page that opens now

    assert not [node for node, _ in run.previews if node == train]  # a live preview would hide or double these
    *samples, sheet = [data["output"] for data in run.of("executed") if data["node"] == train]
    assert [len(output["images"]) for output in samples] == [1, 2]  # steps 0 and 6; with the last one comes the sheet
    assert {picture.size for output in samples for picture in client.pictures(output)} == {(128, 128)}
    (sheet_picture,) = client.pictures(sheet)
    assert sheet_picture.width > 3 * 128 and sheet_picture.height > 128
    assert any(node == train for node, _ in run.texts)
    # Hosts since 0.13 leave out most progress messages; the last one always passes.
    progress = [data for data in run.of("progress") if data["node"] == train]
    assert progress and progress[-1]["value"] == progress[-1]["max"]

    again = client.run(prompt)
    assert again.ending == "execution_success"
    assert train in again.cached and not steps_of(again)
    assert again.outputs[train] == sheet
    (chart,) = sheet["loss_chart"]
    assert chart["state"] == "done" and chart["batches"] == events[-1]["batches"]

    # A new text uses the word that was learned before.
    prompt[only_node(prompt, "TI_EncodePrompt")]["inputs"]["text"] = "a photo of S* on a black background"
    changed = client.run(prompt)
    assert changed.ending == "execution_success"
    assert train in changed.cached and only_node(prompt, "SaveImage") in changed.outputs


def test_what_does_not_change_the_vectors_does_not_train_again(client: ComfyClient) -> None:
    prompt = template(client, 1, seed=8)
    train = only_node(prompt, "TI_Train")
    first = client.run(prompt)
    assert first.ending == "execution_success", first.events[-1]
    prompt[train]["inputs"].update(preview_every=3, placeholder="thing*")
    prompt[only_node(prompt, "TI_EncodePrompt")]["inputs"]["text"] = "a photo of thing*"
    second = client.run(prompt)
    assert second.ending == "execution_success", second.events[-1]
    assert train not in second.cached
    *_, last = steps_of(second)
    assert last["reused"] and last["state"] == "done" and {event["step"] for event in steps_of(second)} == {-1, STEPS}
    before, after = (client.pictures(run.outputs[train])[0] for run in (first, second))
    assert before.tobytes() == after.tobytes()
    report = next(shown["text"][0] for node, shown in second.outputs.items() if is_report(prompt, node))
    assert report.startswith("thing*:") and "Not trained again" in report

    prompt[train]["inputs"].update(steps=STEPS + 1)
    third = client.run(prompt)
    assert third.ending == "execution_success", third.events[-1]
    assert not any(event["reused"] for event in steps_of(third)) and steps_of(third)[-1]["step"] == STEPS + 1


def is_report(prompt: dict[str, Any], node: str) -> bool:
    return prompt[node]["class_type"] == "PreviewAny"


def test_train_runs_alone(client: ComfyClient) -> None:
    prompt = {
        "1": {"class_type": "TI_LoadDemoModel", "inputs": {}},
        "2": template(client, 1, seed=9, steps=2)[only_node(template(client, 1, seed=9), "TI_Train")],
    }
    for name, link in prompt["2"]["inputs"].items():
        if isinstance(link, list):
            prompt["2"]["inputs"][name] = ["1", link[1]]
    run = client.run(prompt)
    assert run.ending == "execution_success", run.events[-1]
    assert run.outputs["2"]["images"]


def test_a_run_that_fails_says_why_to_every_page(client: ComfyClient) -> None:
    prompt = template(client, 1, seed=9)
    prompt[only_node(prompt, "TI_Train")]["inputs"]["initial_words"] = "zxqj"
    run = client.run(prompt)
    assert run.ending == "execution_error"
    *_, last = steps_of(run)
    assert last["state"] == "failed" and last["batches"] == []
    assert last["sentence"] == run.events[-1][1]["exception_message"].strip()


def test_template_3_uses_one_word_in_two_prompts(client: ComfyClient) -> None:
    prompt = template(client, 3, seed=3, steps=2)
    run = client.run(prompt)
    assert run.ending == "execution_success", run.events[-1]
    first, second = (client.pictures(run.outputs[node]) for node in nodes_of(prompt, "SaveImage"))
    assert len(first) == len(second) == 4
    assert any(a.tobytes() != b.tobytes() for a, b in zip(first, second, strict=True))


def test_template_4_changes_nothing_outside_of_the_mask(client: ComfyClient) -> None:
    prompt = template(client, 4, seed=4, steps=2)
    run = client.run(prompt)
    assert run.ending == "execution_success", run.events[-1]
    composite = only_node(prompt, "ImageCompositeMasked")
    before, after = None, None
    for node in nodes_of(prompt, "SaveImage"):
        (picture,) = client.pictures(run.outputs[node])
        if prompt[node]["inputs"]["images"][0] == composite:
            after = pixels(picture)
        else:
            before = pixels(picture)
    assert before is not None and after is not None
    combine = prompt[only_node(prompt, "MaskComposite")]["inputs"]
    hole = prompt[combine["source"][0]]["inputs"]
    inside = np.zeros(before.shape[:2], bool)
    inside[combine["y"] : combine["y"] + hole["height"], combine["x"] : combine["x"] + hole["width"]] = True
    assert 0 < inside.mean() < 1
    assert np.array_equal(before[~inside], after[~inside])
    assert not np.array_equal(before[inside], after[inside])


def test_template_2_fits_the_nodes(client: ComfyClient) -> None:
    # It wants the user's checkpoint, so here it is only translated, which checks every node, widget and link name.
    prompt = template(client, 2, seed=2)
    info = client.get("/object_info")
    for node in prompt.values():
        required = info[node["class_type"]]["input"].get("required", {})
        assert required.keys() <= node["inputs"].keys(), node


def test_cancel_in_mid_run_leaves_a_usable_server(client: ComfyClient) -> None:
    prompt = template(client, 1, seed=5, steps=5000)
    asked: list[float] = []

    def cancel_at_step_2(kind: str, data: dict[str, Any]) -> None:
        if kind == "textual_inversion.step" and data["step"] >= 2 and not asked:
            asked.append(time.monotonic())
            client.post("/interrupt", {})

    run = client.run(prompt, on_event=cancel_at_step_2)
    assert run.ending == "execution_interrupted"
    assert time.monotonic() - asked[0] < SECONDS_TO_CANCEL
    assert run.events[-1][1]["node_type"] == "TI_Train"
    assert steps_of(run)[-1]["state"] == "cancelled"
    assert run.texts[-1][1].startswith("cancelled at step")

    after = client.run(plain_prompt(seed=5))
    assert after.ending == "execution_success", after.events[-1]
    assert client.pictures(after.outputs["5"])[0].size == (128, 128)


def test_training_changes_no_picture_of_the_same_models(client: ComfyClient) -> None:
    first = client.run(plain_prompt(seed=6))
    run = client.run(template(client, 3, seed=6, steps=3))
    assert run.ending == "execution_success", run.events[-1]
    # To the sampler this is 1 as well, to the host's cache it is another input: the same picture is made once more.
    again = client.run(plain_prompt(seed=6, denoise=0.99999))
    assert "1" in again.cached and "4" not in again.cached
    before, after = (client.pictures(run.outputs["5"])[0] for run in (first, again))
    assert before.tobytes() == after.tobytes()


def test_a_text_without_the_word_is_an_error_with_its_cure(client: ComfyClient) -> None:
    prompt = template(client, 3, seed=3, steps=2)
    prompt[nodes_of(prompt, "TI_EncodePrompt")[0]]["inputs"]["text"] = "a photo of nothing"
    run = client.run(prompt)
    assert run.ending == "execution_error"
    error = run.events[-1][1]
    assert error["node_type"] == "TI_EncodePrompt"
    assert error["exception_message"].startswith("The text does not contain S*")


def plain_prompt(seed: int, denoise: float = 1.0) -> dict[str, Any]:
    """A small picture of the demo model with core nodes only; node "5" shows it."""
    return {
        "1": {"class_type": "TI_LoadDemoModel", "inputs": {}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a photo of a red circle"}},
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}},
        "4": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0], "seed": seed,
                "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "sgm_uniform", "denoise": denoise,
            },
        },
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}},
    }  # fmt: skip


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture)
