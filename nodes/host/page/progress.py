"""What the person sees while a run goes on: bar, text, pictures, and the live chart."""

from __future__ import annotations

import sys
import time
import uuid
from types import TracebackType
from typing import Any, ClassVar

import comfy.model_management as memory
import comfy.utils
from comfy_execution.utils import get_executing_context
from torch import Tensor

from ....ti_engine import TrainRecord, TrainStep
from ....ti_engine.data.contact_sheet import rows_of_pictures, to_image
from ...shown.loss_curve import chart_of
from .pictures import shown_picture

_EVENT = "textual_inversion.step"
_SECONDS_BETWEEN = 0.1
_LEAST_SHARE = 20  # at most a 20th of the time goes into messages, however long the run is
_MOST_KEPT = 16  # runs
_LONGEST_SENTENCE = 2000  # characters of an error


class RunProgress:
    """Tells all pages about one run of the node that executes now. Without a server only the bar is left.

    A context manager: leaving it by an exception tells the pages that the run was cancelled or why it failed. Every
    message holds the whole run, so that a page that has missed some of them shows the same.
    """

    _runs: ClassVar[dict[tuple[str | None, str | None], dict[str, Any]]] = {}
    """(workflow, node) -> the last message about its newest run."""

    def __init__(self, steps: int, workflow: str | None) -> None:
        """workflow: id of the graph that is executed, None if the prompt came without one."""
        context = get_executing_context()
        self._node_id = None if context is None else context.node_id
        self._prompt_id = None if context is None else context.prompt_id
        self._workflow = workflow
        self._bar = comfy.utils.ProgressBar(steps)
        self._steps = steps
        self._next_time = 0.0
        self._name = f"textual_inversion_{uuid.uuid4().hex[:8]}"
        self._pictures: list[dict[str, str]] = []
        self.message: dict[str, Any] = {}
        """The last message about this run."""
        self._tell(chart_of(TrainRecord(""), steps), "running")

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        cancelled = isinstance(error, memory.InterruptProcessingException)
        sentence = "cancelled" if cancelled else (str(error) or type(error).__name__)[:_LONGEST_SENTENCE]
        self._tell(self.message, "cancelled" if cancelled else "failed", sentence)
        at = f" at step {self.message['step']} of {self._steps}" if self.message["step"] > 0 else ""
        self._text(f"{'cancelled' if cancelled else 'failed'}{at}")

    @classmethod
    def newest(cls) -> list[dict[str, Any]]:
        """The last message about the newest run of every node, oldest first."""
        return list(cls._runs.values())

    def phase(self, text: str) -> None:
        """One line on the node. Raises the host's interrupt if the person has cancelled."""
        memory.throw_exception_if_processing_interrupted()
        self._text(text)

    def step(self, step: TrainStep) -> None:
        """After every update; tells the page at most ten times a second. Raises the host's interrupt."""
        memory.throw_exception_if_processing_interrupted()
        began = time.monotonic()
        if began < self._next_time:
            return
        self._bar.update_absolute(step.index, self._steps)
        loss = f", loss of this batch {step.loss:.4f}" if step.index else ""
        self._text(f"step {step.index} of {self._steps}{loss}")
        self._tell(chart_of(step.record, self._steps), "running")
        now = time.monotonic()
        self._next_time = now + max(_SECONDS_BETWEEN, _LEAST_SHARE * (now - began))

    def finish(self, record: TrainRecord, samples: dict[int, Tensor], reused: bool) -> dict[str, Any]:
        """Tells that the run is over; what the node shows from now on: its chart, and a sheet of its samples.

        samples: step -> [3, H, W] in 0..1. reused: the run was not trained now but remembered.
        """
        self._bar.update_absolute(self._steps, self._steps)
        self._tell(chart_of(record, self._steps), "done", reused=reused)
        done = "not trained again" if reused else "done"
        result = self.message["result"]
        self._text(f"{done} in {self.message['step']} steps{': ' + result['states'] if result else ''}")
        captions = {step: f"step {step}" for step in sorted(samples)} | {len(record.losses): "result"}
        sheet = rows_of_pictures([(captions[step], samples[step]) for step in sorted(samples)])
        return {"images": [shown_picture(sheet, self._name)], "loss_chart": [self.message]}

    def picture(self, picture: Tensor, step: int) -> None:
        """Add a preview [3, H, W] in 0..1 to the pictures that the node shows.

        Not also as the host's live preview: pages show that beside these, or instead of them even after the run.
        """
        self._bar.update_absolute(step, self._steps)
        server = running_server()
        if server is None or self._node_id is None:
            return
        self._pictures.append(shown_picture(to_image(picture), f"{self._name}_{step:06d}"))
        # All of them each time: pages that are to add pictures to those that a node shows add them twice.
        message = {
            "node": self._node_id,
            "display_node": self._node_id,
            "prompt_id": self._prompt_id,
            "output": {"images": list(self._pictures)},
        }
        server.send_sync("executed", message, server.client_id)

    def _tell(self, chart: dict[str, Any], state: str, sentence: str | None = None, reused: bool = False) -> None:
        self.message = {
            **chart,
            "node": self._node_id,
            "prompt_id": self._prompt_id,
            "workflow": self._workflow,
            "time": time.time(),
            "state": state,
            "sentence": sentence,
            "reused": reused,
        }
        if self._node_id is None:
            return
        place = (self._workflow, self._node_id)
        self._runs.pop(place, None)
        self._runs[place] = self.message
        while len(self._runs) > _MOST_KEPT:
            del self._runs[next(iter(self._runs))]
        server = running_server()
        if server is not None:
            server.send_sync(_EVENT, self.message)

    def _text(self, text: str) -> None:
        server = running_server()
        if server is not None and self._node_id is not None:
            server.send_progress_text(text, self._node_id, server.client_id)


def workflow_id(hidden: Any) -> str | None:
    """The id of the workflow that a page has sent with the prompt, of a node that asks for `extra_pnginfo`."""
    workflow = (getattr(hidden, "extra_pnginfo", None) or {}).get("workflow") or {}
    return workflow.get("id") if isinstance(workflow, dict) else None


def running_server() -> Any:
    """The running server, or None where the nodes are called without one: then nothing has imported its module."""
    module = sys.modules.get("server")
    return getattr(getattr(module, "PromptServer", None), "instance", None)
