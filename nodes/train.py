"""Train Textual Inversion: from the models in the graph and a few pictures to a word."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from comfy_api.latest import io
from torch import Tensor

from ..ti_engine import (
    TokenEmbedding,
    TrainConfig,
    TrainRecord,
    encode_training_set,
    result_warnings,
    setting_warnings,
    train,
)
from ..ti_engine.data.caption_plan import plan_captions
from ..ti_engine.data.picture_checks import picture_warnings
from ..ti_engine.files import training_metadata
from ..ti_engine.memory.out_of_memory import is_out_of_memory, out_of_memory_advice
from .finished_runs import FinishedRun, FinishedRuns, run_key
from .host.backend import HostBackend
from .host.loan.lent_backend import LentBackend
from .host.page.progress import RunProgress, workflow_id
from .schema import CATEGORY, TIEmbedding, TITrainOptions, setting, supported
from .shown.loss_plot import loss_plot
from .shown.train_report import train_report
from .training_input import caption_lines, picture_names, split_pictures

_log = logging.getLogger(__name__)
# A socket takes one link, and the nodes that put pictures together crop them all to the first one's shape.
_MORE_IMAGES = ("images_2", "images_3", "images_4", "images_5")
_MOST_CAPTIONS = 10  # of the pictures that the report shows; the log shows all
_NOT_TRAINED_AGAIN = (
    "Not trained again: the pictures, captions and models, and all settings that change the vectors, are those of an "
    "earlier run."
)
_PREVIEW_PROMPTS = {"object": "a photo of {}", "style": "a painting in the style of {}", "custom": "a photo of {}"}


class Train(io.ComfyNode):
    finished: ClassVar[FinishedRuns] = FinishedRuns()

    @classmethod
    def define_schema(cls) -> io.Schema:
        return supported(
            io.Schema,
            node_id="TI_Train",
            display_name="Train Textual Inversion",
            category=CATEGORY,
            description="Learns a new word from 3 to 5 pictures of one thing or style, with the models that the graph "
            "has loaded. Training does not change them. Use the word with Encode Prompt with S*, and keep it with Save "
            "Embedding.",
            search_aliases=["textual inversion", "train embedding", "learn concept", "personalization", "S*"],
            is_input_list=True,
            is_output_node=True,  # it can run alone, and every host shows a cached result's pictures and chart again
            hidden=[io.Hidden.extra_pnginfo],  # holds the id of the workflow, by which pages know their own runs
            inputs=[
                io.Model.Input("model", tooltip="The model to learn the word for; it stays as it is."),
                io.Clip.Input("clip", tooltip="The text encoder of the same checkpoint; it stays as it is."),
                io.Vae.Input("vae", tooltip="The autoencoder of the same checkpoint."),
                io.Image.Input("images", tooltip="3 to 5 pictures of the thing or style. They may differ in size."),
                setting("steps"),
                setting("learning_rate", step=0.0001, round=False),
                setting("batch_size"),
                setting("num_vectors"),
                setting("initial_words"),
                setting("placeholder"),
                setting("what"),
                setting("seed", control_after_generate=False),
                setting("resolution", step=8),
                setting("preview_every"),
                supported(
                    io.String.Input,
                    "captions",
                    optional=True,
                    force_input=True,
                    tooltip="One line for each picture with the placeholder in it: in their order, or each beginning "
                    'with "Picture 2: ". With what = custom also any number of lines that all pictures draw from. '
                    "caption_lines of Training Options chooses, and the report says which it was.",
                ),
                TITrainOptions.Input("options", optional=True, tooltip="Further settings, from Training Options."),
                *(io.Image.Input(name, optional=True, tooltip="More pictures, of any size.") for name in _MORE_IMAGES),
            ],
            outputs=[
                TIEmbedding.Output(display_name="embedding", tooltip="The learned word."),
                io.Image.Output(display_name="loss_plot", tooltip="The loss over the steps, as a picture."),
                io.Image.Output(
                    display_name="samples",
                    tooltip="The preview pictures in the order of their steps; the first is from before training.",
                ),
                io.String.Output(display_name="report", tooltip="What was learned, how well, and any warnings."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: list[Any],
        clip: list[Any],
        vae: list[Any],
        images: list[Tensor],
        steps: list[int],
        learning_rate: list[float],
        batch_size: list[int],
        num_vectors: list[int],
        initial_words: list[str],
        placeholder: list[str],
        what: list[str],
        seed: list[int],
        resolution: list[int],
        preview_every: list[int],
        captions: list[str] | None = None,
        options: list[dict[str, Any]] | None = None,
        images_2: list[Tensor] | None = None,
        images_3: list[Tensor] | None = None,
        images_4: list[Tensor] | None = None,
        images_5: list[Tensor] | None = None,
    ) -> io.NodeOutput:
        with torch.inference_mode(False), RunProgress(steps[0], workflow_id(cls.hidden)) as progress:
            # The host runs nodes without autograd.
            batches = (images, images_2, images_3, images_4, images_5)
            pictures, unseen = split_pictures([batch for link in batches for batch in link or ()])
            names = picture_names(len(pictures))
            config = TrainConfig(
                **(options[0] if options else {}),
                steps=steps[0],
                learning_rate=learning_rate[0],
                batch_size=batch_size[0],
                num_vectors=num_vectors[0],
                initial_words=initial_words[0],
                placeholder=placeholder[0],
                what=what[0],
                seed=seed[0],
                resolution=resolution[0],
                preview_every=preview_every[0],
            )
            lines = caption_lines(captions)
            plan = plan_captions(
                lines, names, what=config.what, caption_lines=config.caption_lines, templates=config.templates
            )
            config = replace(config, templates=plan.templates)
            backend = HostBackend(model[0], clip[0], vae[0])
            config = replace(config, resolution=config.resolution or backend.resolution)
            warnings = backend.ignored() + setting_warnings(backend, config, len(pictures)) + unseen
            warnings += picture_warnings(pictures, names, config.resolution)
            for warning in warnings:  # in the host's log at once: a run may take hours
                _log.warning("%s", warning)
            _log.info("\n".join(plan.describe(names)))
            key = run_key(backend.identity(), pictures, plan.own, config)
            known = cls.finished.get(key)
            run = known or _learn(backend, config, pictures, plan.own, progress)
            cls.finished.keep(key, run)
            record = replace(run.record, placeholder=config.placeholder)
            warnings += [text.replace(run.record.placeholder, config.placeholder) for text in record.warnings]
            warnings += result_warnings(backend, config, record)
            pairs = plan.describe(names, _MOST_CAPTIONS)
            report = train_report(backend, config, record, run.seconds, warnings, run.cost, pairs)
            if known:
                report += f"\n{_NOT_TRAINED_AGAIN}"
            word = record.embedding()
            metadata = training_metadata(config, record, backend.description, None, len(pictures), run.fingerprint)
            embedding = TokenEmbedding(word.vectors, word.placeholder, metadata)
            on_page = progress.finish(record, run.samples, reused=known is not None)
            samples = torch.stack([run.samples[step] for step in sorted(run.samples)]).movedim(1, -1)
        return io.NodeOutput(embedding, loss_plot(record), samples, report, ui=on_page)


def _learn(
    backend: HostBackend,
    config: TrainConfig,
    pictures: list[Tensor],
    own_captions: Sequence[str | None],
    progress: RunProgress,
) -> FinishedRun:
    """The whole run; what the person sees of it happens in the body of the loop."""
    started = time.monotonic()
    progress.phase(f"encoding {len(pictures)} pictures")
    dataset = encode_training_set(backend, pictures, config, own_captions)
    prompt = _PREVIEW_PROMPTS[config.what].format(config.placeholder)
    samples: dict[int, Tensor] = {}
    record = TrainRecord(config.placeholder)

    def preview(lent: LentBackend, step: int, word: TokenEmbedding) -> None:
        progress.phase(f"preview at step {step}")
        try:
            samples[step] = lent.sample(prompt, word, config.seed, config.resolution)
        except Exception as error:  # what was learned is worth more than a picture of it
            if not is_out_of_memory(error):
                raise
            progress.phase(f"no memory for a preview at step {step}; training goes on")

    progress.phase("loading the models")
    try:
        latents = dataset.mean.shape[1:]
        with backend.threads(), backend.lent(config.batch_size, latents, config.gradient_checkpointing) as lent:
            for step in train(lent, dataset, config):
                record = step.record
                if not step.index:
                    for warning in record.warnings:  # now, and not only when hours of training are over
                        _log.warning("%s", warning)
                progress.step(step)
                is_due = config.preview_every and step.index % config.preview_every == 0 and step.index < config.steps
                if is_due and step.index not in samples:
                    preview(lent, step.index, record.embedding(step.index))
                    # At the end the sheet of all follows at once, and a page may show what it has loaded last.
                    if step.index in samples and not record.stopped:
                        progress.picture(samples[step.index], step.index)
            fingerprint = lent.fingerprint()
            samples.pop(len(record.losses), None)  # of the last state, which need not be the result
            try:
                preview(lent, len(record.losses), record.embedding())
            except (RuntimeError, ValueError) as error:  # not the host's interruption, which is neither
                # The word is complete: what cannot be drawn must not take it away.
                _log.warning("There is no picture of the learned word: %s", error, exc_info=True)
            cost = lent.cost(config.batch_size // record.parts)
    except Exception as error:
        if record.losses or not is_out_of_memory(error):
            raise
        first_line, *_ = str(error).splitlines() or [type(error).__name__]  # a library may mean something else by it
        advice = out_of_memory_advice(config.batch_size, config.resolution, config.gradient_checkpointing)
        raise ValueError(
            f"The memory of {backend.device} does not hold a step of training. {advice} ({first_line})"
        ) from error
    if not record.losses:  # the start is no learned word, and must not be saved as one
        raise ValueError(record.stopped or "Nothing was learned.")
    if not samples:
        samples[0] = torch.zeros(3, config.resolution, config.resolution)
    return FinishedRun(record, samples, fingerprint, cost, time.monotonic() - started)
