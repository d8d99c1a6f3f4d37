"""Models are the same by what they hold, and others if a single number of any of their parts differs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from small_pipelines import KINDS, build_pipeline, modules_of

from ti_engine.standalone import DiffusersBackend, load_model


def identity(pipeline: Any, **more: Any) -> str:
    return DiffusersBackend(pipeline, **more).identity()


@pytest.mark.parametrize("kind", ["sd1", *KINDS])
def test_a_single_number_of_any_part_makes_other_models(kind: str) -> None:
    pipeline = build_pipeline(kind, torch.float32)
    found = {identity(pipeline)}
    for module in modules_of(pipeline).values():
        weight = max(module.parameters(), key=torch.numel)
        with torch.no_grad():
            weight.view(-1)[-1] += 0.25  # not among those that count by their place in a large weight
        found.add(identity(pipeline))
    assert len(found) == 1 + len(modules_of(pipeline))


def test_numbers_that_change_places_make_other_models() -> None:
    pipeline = build_pipeline("sd1", torch.float32)
    before, table = identity(pipeline), pipeline.text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        table.copy_(table.flip(0))
    assert identity(pipeline) != before


def test_precision_noise_levels_settings_and_words_count() -> None:
    found = [identity(build_pipeline("sd1", torch.float32)), identity(build_pipeline("sd1", torch.bfloat16))]
    for setting in ({"prediction_type": "v_prediction"}, {"beta_end": 0.013}):
        pipeline = build_pipeline("sd1", torch.float32)
        pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **setting)
        found.append(identity(pipeline))
    pipeline = build_pipeline("sd1", torch.float32)
    pipeline.vae.register_to_config(scaling_factor=0.5)
    found.append(identity(pipeline))
    pipeline = build_pipeline("sd1", torch.float32)
    pipeline.tokenizer.model_max_length = 70
    found.append(identity(pipeline))
    assert len(set(found)) == len(found)


def test_the_name_and_the_place_do_not_count(tmp_path: Path) -> None:
    build_pipeline("sdxl", torch.float32).save_pretrained(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second ü")
    assert load_model(tmp_path / "first").identity() == load_model(tmp_path / "second ü").identity()


def test_what_training_does_to_the_backend_does_not_count() -> None:
    backend = DiffusersBackend(build_pipeline("sd1", torch.float32))
    before = backend.identity()
    assert backend.save_memory()
    backend.encode(["a S*"], {"S*": {"clip_l": torch.zeros(1, 16)}}, differentiable=True)
    assert backend.identity() == before
