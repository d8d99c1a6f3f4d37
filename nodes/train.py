"""Train Textual Inversion: from the models in the graph and a few pictures to a word."""

from __future__ import annotations

import logging
import secrets
from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..ti_engine import TokenEmbedding, TrainConfig, result_warnings, setting_warnings
from ..ti_engine.data.caption_plan import plan_captions
from ..ti_engine.data.picture_checks import picture_warnings
from ..ti_engine.files import training_metadata
from ..ti_engine.run.about import describe_run
from ..ti_engine.run.folder import SavedRun
from ..ti_engine.run.kept_run import KeptRun
from ..ti_engine.run.key import run_key
from ..ti_engine.run.store import RunStore
from .host.backend import HostBackend
from .host.page.progress import RunProgress, workflow_id
from .host.run_store import run_store
from .host.text.named_files import core_names_fingerprint
from .schema import CATEGORY, TIEmbedding, TIRun, TITrainOptions, setting, supported
from .shown.loss_plot import loss_plot
from .shown.train_report import train_report
from .training_input import caption_lines, picture_names, split_pictures
from .training_run import learn, preview_pictures

_log = logging.getLogger(__name__)
# A socket takes one link, and the nodes that put pictures together crop them all to the first one's shape.
_MORE_IMAGES = ("images_2", "images_3", "images_4", "images_5")
_MOST_CAPTIONS = 10  # of the pictures that the report shows; the log shows all
_NOT_TRAINED_AGAIN = (
    "Not trained again: the pictures, captions and models, and all settings that change the vectors, are those of an "
    "earlier run. To train anew, set if_exists of Training Options to retrain."
)


class Train(io.ComfyNode):
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
                TIEmbedding.Input(
                    "init_from",
                    optional=True,
                    tooltip="An embedding whose vectors training starts from, such as a step of an earlier run. Leave "
                    "initial_words empty then.",
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
                TIRun.Output(display_name="run", tooltip="The whole run, for Pick Step."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> int:
        """Another one after every run that can go on: Run then goes on with it, where the host would give out the
        result that it has kept. Runs that are over are returned from disk."""
        return RunProgress.unfinished

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
        init_from: list[TokenEmbedding] | None = None,
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
            start = init_from[0] if init_from else None
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
                lines, names, what=config.what, caption_lines=config.caption_lines, templates=config.templates,
                class_noun=config.class_noun,
            )  # fmt: skip
            config = replace(config, templates=plan.templates)
            backend = HostBackend(model[0], clip[0], vae[0])
            config = replace(config, resolution=config.resolution or backend.resolution)
            warnings = backend.ignored() + setting_warnings(backend, config, len(pictures), start) + unseen
            warnings += plan.warnings + picture_warnings(pictures, names, config.resolution)
            for warning in warnings:  # in the host's log at once: a run may take hours
                _log.warning("%s", warning)
            _log.info("\n".join(plan.describe(names)))
            models = backend.identity()
            texts = [*config.templates, config.initial_words, *(text or "" for text in plan.own)]
            files = core_names_fingerprint(texts)  # the host reads the files of embedding:name
            key = run_key(f"{models}{files}", pictures, plan.own, config, start) if models else secrets.token_hex(16)
            about = describe_run(config, backend.description, plan.own, len(pictures), start)
            store = run_store()
            with store.open(key, about, config.if_exists == "retrain", progress.phase) as run:
                progress.follow(run.id, models is not None and config.if_exists == "reuse" and not run.problem)
                found = run.saved
                reused = found is not None and found.is_result_of(config)
                if found is not None and reused:
                    record = found.record.called(config.placeholder)
                else:
                    record = learn(backend, config, pictures, plan.own, start, run, progress).record
            warnings += record.warnings + result_warnings(backend, config, record) + run.warnings
            warnings += [run.problem] if run.problem else []
            seconds = found.seconds if found and reused else run.seconds
            report = train_report(
                backend, config, record, seconds, warnings, run.notes.get("cost", ""),
                plan.describe(names, _MOST_CAPTIONS), start,
            )  # fmt: skip
            report += f"\n{_history(run, found, reused, config.steps)}"
            word = record.embedding()
            metadata = training_metadata(
                config, record, backend.description, None, len(pictures), run.notes.get("fingerprint"), run=run.id
            )
            embedding = TokenEmbedding(word.vectors, word.placeholder, metadata)
            pictures_by_step = preview_pictures(run, len(record.losses), config.resolution)
            on_page = progress.finish(record, pictures_by_step, reused)
            samples = torch.stack([pictures_by_step[step] for step in sorted(pictures_by_step)]).movedim(1, -1)
            _make_room(store, run.id, config.runs_gb)
        return io.NodeOutput(embedding, loss_plot(record), samples, report, run.folder, ui=on_page)


def _make_room(store: RunStore, spared: str, most_gb: float) -> None:
    """Deletes the oldest finished runs above a size; says in the host's log which, and where the disk refuses."""
    try:
        for old in store.shrink(most_gb * 1e9, spared):
            _log.warning("Deleted the run %s: all runs may take up %g GB (runs_gb).", old.folder.id, most_gb)
    except OSError as error:
        _log.warning("The runs in %s could not be kept below %g GB: %s", store.root, most_gb, error)


def _history(run: KeptRun, found: SavedRun | None, reused: bool, steps: int) -> str:
    """What of the run was there before, and where it lies."""
    if reused:
        before = f"{_NOT_TRAINED_AGAIN} "
    elif found is not None and found.step > steps:
        before = f"Not trained again: these are the first steps of a run that has made {found.step}. "
    elif found is not None:
        before = f"Went on from step {found.step}, where the run had stopped. "
    else:
        before = ""
    return f"{before}Run {run.id}, in the folder textual_inversion/{run.id} of the output folder."
