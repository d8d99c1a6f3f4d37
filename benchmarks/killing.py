"""Processes that train a run on disk and are killed with SIGKILL in a chosen moment (reliability.py)."""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ti_engine import Backend, TokenEmbedding, TrainConfig, TrainingSet, start_run, train
from ti_engine.files import atomic
from ti_engine.run import kept_run, trajectory
from ti_engine.run.key import run_key
from ti_engine.run.store import RunStore

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "engine"))
from kept_runs import differences, wide
from toy import noisy_set, toy_config

WHERE = {
    "time": "at a random time",
    "write": "in the middle of writing a file",
    "rename": "after writing a file, before it has its name",
    "chunk": "after a part of the trajectory, before the state",
    "line": "in the middle of a line of the log",
    "placed": "just after a file got its name",
}


@dataclass(frozen=True)
class Job:
    """What is trained. every_step: written after every step, instead of for at most a hundredth of the time; and with
    chunks of the trajectory of `chunk_bytes`, so small that a short run has several."""

    name: str
    backend: Backend
    dataset: TrainingSet
    config: TrainConfig
    draw: Callable[[TokenEmbedding], torch.Tensor]
    every_step: bool
    chunk_bytes: int

    @property
    def key(self) -> str:
        return run_key(self.name, [torch.zeros(3, 8, 8)], [None], self.config)


@dataclass(frozen=True)
class Moment:
    """Where a process is killed. count: of such places, from 1. share: of the bytes that are written before, or of the
    time of a whole run."""

    where: str
    count: int = 0
    share: float = 0.0


@dataclass
class Attempt:
    """What a process told before it ended."""

    killed: bool = False
    began_at: int = 0
    """Step of the state that it found; 0 if there was none."""
    times: dict[int, float] = field(default_factory=dict)
    """Step that was computed -> when, in seconds."""
    places: Counter[str] = field(default_factory=Counter)
    """How often it was at each of the places, if it came to its end."""
    error: str = ""

    @property
    def reached(self) -> int:
        return max(self.times, default=self.began_at)


def toy_job(every_step: bool, steps: int) -> Job:
    """Eight vectors of 400 numbers, so that a chunk of the trajectory is full after 5 or 20 steps; the loss scale
    falls."""
    backend = wide()
    backend.loss_scale = 2.0**140
    config = toy_config(steps=steps, num_vectors=8, evaluate_every=7, preview_every=10)
    return Job(
        "toy", backend, noisy_set(backend), config, lambda word: backend.sample("S*", word, 0, 64), every_step, 0
    )


def demo_job(every_step: bool, steps: int) -> Job:
    """The demo model, which learns from its own four pictures."""
    from ti_engine import encode_training_set
    from ti_engine.demo.examples import example_pictures
    from ti_engine.demo.load import load_demo

    backend = load_demo()
    settings: Mapping[str, Any] = {"batch_size": 2 if every_step else 8, "evaluate_every": 3, "preview_every": 4}
    config = TrainConfig(steps=steps, resolution=backend.resolution, **settings)
    dataset = encode_training_set(backend, list(example_pictures()), config)

    def draw(word: TokenEmbedding) -> torch.Tensor:
        return backend.sample("S*", word, 0, backend.resolution, steps=2)

    return Job("demo", backend, dataset, config, draw, every_step, chunk_bytes=2048)


__all__ = ["JOBS", "WHERE", "Attempt", "Job", "Moment", "attempt", "differences"]
JOBS = {"toy": toy_job, "demo": demo_job}


def attempt(job: Job, root: Path, moment: Moment | None = None, whole_run: float = 0.0) -> Attempt:
    """Trains in a process of its own until it ends or is killed. whole_run: seconds that a share of the time is of."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        _in_child(job, root, moment, write)
    os.close(write)
    result = Attempt()
    deadline = time.monotonic() + moment.share * whole_run if moment and moment.where == "time" else float("inf")
    with os.fdopen(read, "rb") as told:
        rest = b""
        while True:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([told], [], [], None if left == float("inf") else max(0.0, left))
            if not ready:
                os.kill(child, signal.SIGKILL)
                deadline = float("inf")
                continue
            data = os.read(told.fileno(), 1 << 16)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                _hear(result, json.loads(line))
    _, status = os.waitpid(child, 0)
    result.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not result.killed and status:
        result.error = result.error or f"ended with {status}"
    return result


def _hear(result: Attempt, said: dict[str, Any]) -> None:
    if "found" in said:
        result.began_at = said["found"]
    elif "step" in said:
        result.times[said["step"]] = said["time"]
    elif "places" in said:
        result.places = Counter(said["places"])
    else:
        result.error = said["error"]


def _in_child(job: Job, root: Path, moment: Moment | None, pipe: int) -> None:
    def tell(**facts: Any) -> None:
        os.write(pipe, json.dumps(facts).encode() + b"\n")

    try:
        gc.freeze()
        places: Counter[str] = Counter()
        _watch(places, moment)
        if job.every_step:
            kept_run.PAUSE, trajectory._CHUNK_BYTES = 0, job.chunk_bytes
        _train(job, root, tell)
        tell(places=places)
    except BaseException as error:
        tell(error=repr(error))
    finally:
        os._exit(0)  # nothing of the parent's is run at the end


def _train(job: Job, root: Path, tell: Callable[..., None]) -> None:
    """As a caller does it that draws previews and returns a finished run at once."""
    config = job.config
    with RunStore(root).open(
        job.key, {"settings": config.to_dict()}, False, lambda sentence: tell(error=sentence)
    ) as run:
        tell(found=run.saved.step if run.saved else 0)
        if run.saved and run.saved.is_result_of(config):
            return
        state = start_run(job.backend, config)
        run.restore(state)
        for step in train(job.backend, job.dataset, config, state):
            tell(step=step.index, time=time.monotonic())
            run.keep(step)
            if step.index % config.preview_every == 0 and step.index not in run.previews:
                run.keep_preview(step.index, job.draw(step.record.embedding(step.index)))
        run.keep_preview(None, job.draw(state.record.embedding()))
        run.finish(state, config)


def _watch(places: Counter[str], moment: Moment | None) -> None:
    """Counts the places where a process may be killed, and kills this one at the chosen one."""
    replace, write, append = os.replace, atomic._write, atomic.append

    def is_at(where: str) -> bool:
        places[where] += 1
        return moment is not None and moment.where == where and moment.count == places[where]

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def watched_write(path: Path, data: bytes, synced: bool) -> None:
        if is_at("write"):
            assert moment is not None
            write(path, data[: int(moment.share * len(data))], synced)
            die()
        write(path, data, synced)

    def watched_replace(source: Path, target: Path) -> None:
        if is_at("rename"):
            die()
        replace(source, target)
        if is_at("placed") or (target.parent.name == "trajectory" and is_at("chunk")):
            die()

    def watched_append(path: Path, data: bytes) -> None:
        if is_at("line"):
            assert moment is not None
            append(path, data[: int(moment.share * len(data))])
            die()
        append(path, data)

    atomic._write, os.replace, kept_run.append = watched_write, watched_replace, watched_append
