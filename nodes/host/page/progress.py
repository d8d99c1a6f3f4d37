"""What the person sees while a run goes on: bar, text, pictures, and the live chart."""

from __future__ import annotations

import logging
import sys
import time
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, ClassVar

import comfy.model_management as memory
import comfy.utils
from comfy_execution.utils import get_executing_context
from torch import Tensor

from ....ti_engine import TrainRecord, TrainStep
from ....ti_engine.data.contact_sheet import rows_of_pictures, to_image
from ...shown.loss_curve import chart_of
from .pictures import save_temporary_picture

_log = logging.getLogger(__name__)
_EVENT = "textual_inversion.step"
_SECONDS_BETWEEN = 0.1
_LEAST_SHARE = 20  # at most a 20th of the time goes into messages, however long the run is
_MOST_KEPT = 16  # runs
_LONGEST_SENTENCE = 2000  # characters of an error
_FEWEST_TIMED = 3  # updates before the time that is left can be told


class RunProgress:
    """Tells all pages about one run of the node that executes now. Without a server only the bar is left.

    A context manager: leaving it by an exception tells the pages that the run was cancelled or why it failed. Every
    message holds the whole run, so that a page that has missed some of them shows the same.
    """

    _runs: ClassVar[dict[tuple[str | None, str | None], dict[str, Any]]] = {}
    """(workflow, node) -> the last message about its newest run."""
    _going_on: ClassVar[dict[str, RunProgress]] = {}
    """Id of a run on disk -> the one who trains it now."""
    unfinished: ClassVar[int] = 0
    """Runs of this process that have given a word and can go on."""

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
        self._pictures: dict[int, dict[str, str]] = {}
        self._run_id: str | None = None
        self._wishes: set[str] = set()
        self.goes_on = False
        """Whether the next Run goes on with this one."""
        self._clock: tuple[int, float] | None = None  # the step and time at which this process began
        self.message: dict[str, Any] = {}
        """The last message about this run."""
        self._tell(chart_of(TrainRecord(""), steps), "running")

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run_id is not None:
            self._going_on.pop(self._run_id, None)
        if error is None:
            return
        cancelled = is_interruption(error)
        step = self.message["step"]
        at = f" at step {step} of {self._steps}" if step > 0 else ""
        goes_on = "; Run goes on from here" if step > 0 and self.goes_on else ""
        state = "cancelled" if cancelled else "failed"
        failure = (str(error) or type(error).__name__)[:_LONGEST_SENTENCE]
        self._tell(self.message, state, f"cancelled{goes_on}" if cancelled else failure)
        self._text(f"{state}{at}{goes_on}")

    @classmethod
    def last_message(cls, run_id: str) -> dict[str, Any] | None:
        """The last message about a run on disk, of those that this process remembers."""
        return next((message for message in reversed(cls.newest()) if message["run"] == run_id), None)

    @classmethod
    def newest(cls) -> list[dict[str, Any]]:
        """The last message about the newest run of every node, oldest first."""
        return list(cls._runs.values())

    @classmethod
    def ask(cls, run_id: str, wish: str) -> bool:
        """Asks for `stop` or `sample` at the next step of a run; False if nobody trains it now. From any thread."""
        progress = cls._going_on.get(run_id)
        if progress is not None:
            progress._wishes.add(wish)
        return progress is not None

    def follow(self, run_id: str, goes_on: bool) -> None:
        """From now on this is the run with that id, which can be asked to stop. goes_on: whether Run finds it again."""
        self._run_id, self.goes_on = run_id, goes_on
        self._going_on[run_id] = self
        self._tell(self.message, "running")

    def take_wish(self, wish: str) -> bool:
        """Whether that was asked for: stop, sample. It is then no longer."""
        asked = wish in self._wishes
        self._wishes.discard(wish)
        return asked

    @classmethod
    def count_unfinished(cls) -> None:
        """A run gives a word now and can go on. The host must not take its result for the whole run's."""
        cls.unfinished += 1

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
        loss = "" if step.is_first else f", loss of this batch {step.loss:.4f}"
        self._text(f"step {step.index} of {self._steps}{loss}{self._time_left(step.index, began)}")
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
        shown = {"loss_chart": [self.message]}
        try:
            return {"images": [save_temporary_picture(sheet, self._name)], **shown}
        except OSError as error:  # what was learned is worth more than a picture of it
            _log.warning("The pictures of the run cannot be shown: %s", error)
            return shown

    def _time_left(self, step: int, now: float) -> str:
        """For a sentence; empty until a few updates were made."""
        if self._clock is None:
            self._clock = step, now
        first, began = self._clock
        if step - first < _FEWEST_TIMED:
            return ""
        seconds = round((now - began) / (step - first) * (self._steps - step))
        hours, minutes = seconds // 3600, seconds // 60 % 60
        return f", {hours}:{minutes:02d}:{seconds % 60:02d} left" if hours else f", {minutes}:{seconds % 60:02d} left"

    def show_previews(self, previews: Mapping[int | None, Tensor]) -> None:
        """Shows the previews of steps, [3, H, W] in 0..1 each, on the node; the result has its place at the end.

        Not also as the host's live preview: pages show that beside these, or instead of them even after the run.
        """
        server = running_server()
        if server is None or self._node_id is None:
            return
        try:
            for step, picture in previews.items():
                if step is not None and step not in self._pictures:
                    self._pictures[step] = save_temporary_picture(to_image(picture), f"{self._name}_{step:06d}")
        except OSError as error:
            _log.warning("A preview cannot be shown: %s", error)
        if not self._pictures:
            return
        # All of them each time: pages that are to add pictures to those that a node shows add them twice.
        message = {
            "node": self._node_id,
            "display_node": self._node_id,
            "prompt_id": self._prompt_id,
            "output": {"images": [self._pictures[step] for step in sorted(self._pictures)]},
        }
        server.send_sync("executed", message, server.client_id)

    def _tell(self, chart: dict[str, Any], state: str, sentence: str | None = None, reused: bool = False) -> None:
        self.message = {
            **chart,
            "node": self._node_id,
            "prompt_id": self._prompt_id,
            "workflow": self._workflow,
            "run": self._run_id,
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


def is_interruption(error: BaseException) -> bool:
    """Whether the person has cancelled: an Exception in older hosts, and none in newer ones."""
    return isinstance(error, memory.InterruptProcessingException)


def workflow_id(hidden: Any) -> str | None:
    """The id of the workflow that a page has sent with the prompt, of a node that asks for `extra_pnginfo`."""
    workflow = (getattr(hidden, "extra_pnginfo", None) or {}).get("workflow") or {}
    return workflow.get("id") if isinstance(workflow, dict) else None


def running_server() -> Any:
    """The running server, or None where the nodes are called without one: then nothing has imported its module."""
    module = sys.modules.get("server")
    return getattr(getattr(module, "PromptServer", None), "instance", None)
