"""What the person sees while a run goes on: bar, text, pictures, and the points of the live chart."""

from __future__ import annotations

import math
import sys
import time
import uuid
from typing import Any

import comfy.model_management as memory
import comfy.utils
import torch
from comfy_execution.utils import get_executing_context
from PIL import Image
from torch import Tensor

from ....ti_engine import TrainRecord, TrainStep
from ....ti_engine.training.result import describe_states
from ..text.folders import temporary_folder

_EVENT = "textual_inversion.step"
_SECONDS_BETWEEN = 0.1
_MOST_POINTS = 1024


class RunProgress:
    """Tells the page about one run of the node that executes now. Without a server only the bar is left."""

    def __init__(self, steps: int) -> None:
        context = get_executing_context()
        self._node_id = None if context is None else context.node_id
        self._prompt_id = None if context is None else context.prompt_id
        self._bar = comfy.utils.ProgressBar(steps)
        self._steps = steps
        self._told = 0  # losses
        self._told_evaluations: set[int] = set()
        self._last_time = 0.0
        self._run = uuid.uuid4().hex[:8]
        self._has_picture = False

    def phase(self, text: str) -> None:
        """One line on the node. Raises the host's interrupt if the person has cancelled."""
        memory.throw_exception_if_processing_interrupted()
        server = _server()
        if server is not None and self._node_id is not None:
            server.send_progress_text(text, self._node_id)

    def step(self, step: TrainStep) -> None:
        """After every update; tells the page at most ten times a second. Raises the host's interrupt."""
        memory.throw_exception_if_processing_interrupted()
        now = time.monotonic()
        if now - self._last_time < _SECONDS_BETWEEN:
            return
        self._last_time = now
        self._bar.update_absolute(step.index, self._steps)
        loss = f"  loss {step.loss:.4f}" if step.index else ""
        self.phase(f"step {step.index} of {self._steps}{loss}")
        self._send_points(step.record, done=False)

    def finish(self, record: TrainRecord) -> None:
        """All that was not told yet, and that the run is over."""
        self._bar.update_absolute(self._steps, self._steps)
        self._send_points(record, done=True)
        self.phase(f"done in {len(record.losses)} steps: {describe_states(record.returned)}")

    def picture(self, picture: Tensor, step: int) -> None:
        """Add a preview [3, H, W] in 0..1 to the pictures that the node shows; the first replaces those of other runs.

        Not also as the host's live preview: pages show that beside these, or instead of them even after the run.
        """
        self._bar.update_absolute(step, self._steps)
        server = _server()
        if server is None or self._node_id is None:
            return
        name = f"textual_inversion_{self._run}_{step:06d}.png"
        temporary_folder().mkdir(parents=True, exist_ok=True)
        _to_image(picture).save(temporary_folder() / name, compress_level=1)
        # Pages add the pictures of an `executed` with `merge` to those that the node shows already.
        message = {
            "node": self._node_id,
            "display_node": self._node_id,
            "prompt_id": self._prompt_id,
            "merge": self._has_picture,
            "output": {"images": [{"filename": name, "subfolder": "", "type": "temp"}]},
        }
        server.send_sync("executed", message, server.client_id)
        self._has_picture = True

    def _send_points(self, record: TrainRecord, done: bool) -> None:
        losses = record.losses
        points = [[i + 1, losses[i]] for i in range(self._told, len(losses))]
        evaluations = [[s, loss] for s, loss in record.evaluations.items() if s not in self._told_evaluations]
        self._told = len(losses)
        self._told_evaluations.update(record.evaluations)
        server = _server()
        if server is None or self._node_id is None:
            return
        message = {"node": self._node_id, **_state(record, self._steps, points, evaluations, done)}
        server.send_sync(_EVENT, message, server.client_id)


def finished_chart(record: TrainRecord, steps: int) -> dict[str, Any]:
    """What the page needs to draw the chart of a run that it has not seen: a finished one, at most 1,024 points."""
    stride = -(-max(1, len(record.losses)) // _MOST_POINTS)
    points = [[i + 1, record.losses[i]] for i in range(0, len(record.losses), stride)]
    evaluations = [[step, loss] for step, loss in record.evaluations.items()]
    return _state(record, steps, points, evaluations, done=True)


def _state(
    record: TrainRecord, steps: int, points: list[list[float]], evaluations: list[list[float]], done: bool
) -> dict[str, Any]:
    return {
        "step": len(record.trajectory) - 1,
        "steps": steps,
        "points": points,
        "evaluations": [e for e in evaluations if math.isfinite(e[1])],  # NaN would be no JSON
        "stopped": record.stopped,
        "done": done,
    }


def _server() -> Any:
    """The running server, or None where the nodes are called without one: then nothing has imported its module."""
    module = sys.modules.get("server")
    return getattr(getattr(module, "PromptServer", None), "instance", None)


def _to_image(picture: Tensor) -> Image.Image:
    data = (picture.clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).cpu().numpy()
    return Image.fromarray(data)
