"""A run of Train Textual Inversion: the loop, and what the person sees and asks for while it goes on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from ..ti_engine import RunState, TokenEmbedding, TrainConfig, encode_training_set, start_run, train
from ..ti_engine.memory.out_of_memory import is_out_of_memory, out_of_memory_advice
from ..ti_engine.run.kept_run import KeptRun
from ..ti_engine.training.loop import compare_candidates
from .host.backend import HostBackend
from .host.loan.lent_backend import LentBackend
from .host.page.progress import RunProgress, is_interruption
from .shown.train_report import missing_previews

_log = logging.getLogger(__name__)
_PREVIEW_PROMPTS = {"object": "a photo of {}", "style": "a painting in the style of {}", "custom": "a photo of {}"}


def learn(
    backend: HostBackend,
    config: TrainConfig,
    pictures: list[Tensor],
    own_captions: Sequence[str | None],
    start: TokenEmbedding | None,
    run: KeptRun,
    progress: RunProgress,
) -> RunState:
    """Trains from where `run` is to the end, or until the person stops it; returns the state at the end.

    start: the embedding that a new run starts from, if it is not to start from the initial words.
    """
    progress.phase(f"encoding {len(pictures)} pictures")
    dataset = encode_training_set(backend, pictures, config, own_captions)
    prompt = _PREVIEW_PROMPTS[config.what].format(config.in_prompt())

    missing: list[int] = []

    def preview(lent: LentBackend, step: int | None, word: TokenEmbedding) -> None:
        """step: None for the result."""
        which = "of the result" if step is None else f"at step {step}"
        progress.phase(f"preview {which}")
        try:
            run.keep_preview(step, lent.sample(prompt, word, config.seed, config.resolution))
        except Exception as error:  # what was learned is worth more than a picture of it
            if not is_out_of_memory(error):
                raise
            missing.append(len(record.losses) if step is None else step)
            progress.phase(f"no memory for a preview {which}; training goes on")

    progress.phase("loading the models")
    state: RunState | None = None
    try:
        latents = dataset.mean.shape[1:]
        with backend.threads(), backend.lent(config.batch_size, latents, config.gradient_checkpointing) as lent:
            state = start_run(lent, config, start)
            run.restore(state)
            record, stopped_by_hand = state.record, False
            for step in train(lent, dataset, config, state):
                record = step.record  # another one where the run on disk has more steps than are asked for
                run.keep(step)
                progress.step(step)
                if step.is_first:
                    progress.show_previews(run.previews)
                    for warning in record.warnings:  # now, and not only when hours of training are over
                        _log.warning("%s", warning)
                due = config.preview_every and step.index % config.preview_every == 0 and step.index < config.steps
                if step.index not in run.previews and (progress.take_wish("sample") or due):
                    preview(lent, step.index, record.embedding(step.index))
                    if step.index in run.previews:
                        progress.show_previews(run.previews)
                if record.losses and step.index < state.last_step(config) and progress.take_wish("stop"):
                    stopped_by_hand = True
                    compare_candidates(lent, dataset, config, state)
                    again = " Run again to go on from there." if progress.goes_on else ""
                    record.stopped = f"Stopped by hand after step {step.index}.{again}"
                    break
            if progress.goes_on and (stopped_by_hand or record.last_good is not None):
                progress.count_unfinished()
            run.notes = {"fingerprint": lent.fingerprint(), "cost": lent.cost(config.batch_size // record.parts)}
            if record.losses:
                try:
                    preview(lent, None, record.embedding())
                except Exception as error:  # The word is complete: what cannot be drawn must not take it away.
                    if is_interruption(error):
                        raise
                    _log.warning("There is no picture of the learned word: %s", error, exc_info=True)
                record.warnings += missing_previews(missing)
                run.finish(state, config, stopped_by_hand)
    except Exception as error:
        if (state is not None and state.record.losses) or not is_out_of_memory(error):
            raise
        first_line, *_ = str(error).splitlines() or [type(error).__name__]  # a library may mean something else by it
        advice = out_of_memory_advice(config.batch_size, config.resolution, config.gradient_checkpointing)
        raise ValueError(
            f"The memory of {backend.device} does not hold a step of training. {advice} ({first_line})"
        ) from error
    if not record.losses:  # the start is no learned word, and must not be saved as one
        raise ValueError(record.stopped or "Nothing was learned.")
    return state


def preview_pictures(run: KeptRun, steps: int, resolution: int) -> dict[int, Tensor]:
    """Step -> picture [3, H, W] in 0..1, that of the result under `steps`; a black one if there is none at all."""
    shapes = [picture.shape for picture in run.previews.values()]  # a strange file may be of another
    previews = {step: picture for step, picture in run.previews.items() if picture.shape == shapes[-1]}
    pictures = {step: picture for step, picture in previews.items() if step is not None and step < steps}
    if None in previews:
        pictures[steps] = previews[None]
    return pictures or {0: torch.zeros(3, resolution, resolution)}
