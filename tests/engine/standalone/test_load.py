"""Folders of every family opened and used by the command line, and what is said about the others."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers
from small_models import small_scheduler, small_unet
from small_pipelines import KINDS, build_pipeline, flow_scheduler

from ti_engine.cli import main
from ti_engine.files import load_embedding
from ti_engine.standalone import DiffusersBackend, load_model

WIDTHS = {
    "sdxl": {16: "clip_l", 24: "clip_g"},
    "sd3": {16: "clip_l", 24: "clip_g", 40: "t5xxl"},
    "flux": {16: "clip_l", 40: "t5xxl"},
    "ldm": {1280: "bert"},  # by any other width a file's `bert` is a word
}
Output = pytest.CaptureFixture[str]


pytestmark = pytest.mark.usefixtures("in_folder")


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_trained_and_draws(kind: str, capsys: Output) -> None:
    more: dict[str, Any] = {"width": 1280} if kind == "ldm" else {}
    build_pipeline(kind, torch.float32, **more).save_pretrained("pipeline")
    flags = ["--model", "pipeline", "--steps", "2", "--batch-size", "2", "--num-vectors", "2", "--initial-words", "cat"]
    assert main(["train", "a.png", *flags, "--resolution", "64", "--evaluate-every", "0", "--quiet", "--json"]) == 0
    streams = capsys.readouterr()
    result = json.loads(streams.out)
    assert result["model"]["name"] == "pipeline"
    assert len(result["model"]["sha256"]) == 64
    assert " + ".join(WIDTHS[kind].values()) in streams.err
    word = load_embedding("word.safetensors", WIDTHS[kind])
    assert {rows.shape[1]: key for key, rows in word.vectors.items()} == WIDTHS[kind]
    prompt = ["generate", "a (S*), on the cat", "--model", "pipeline", "--embedding", "word.safetensors"]
    prompt += ["--output", "out", "--num-images", "2", "--steps", "2", "--resolution", "64", "--precision", "bfloat16"]
    assert main(prompt) == 0
    assert Image.open("out/1.png").size == (64, 64)


def test_hidden_copies_in_a_folder_are_passed_over(capsys: Output) -> None:
    """macOS writes them beside every file when it copies to another kind of disk."""
    build_pipeline("sdxl", torch.float32).save_pretrained("pipeline")
    folders = [*Path("pipeline").iterdir(), Path("pipeline")]
    for file in [file for folder in folders if folder.is_dir() for file in folder.iterdir() if file.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    flags = ["--steps", "1", "--batch-size", "1", "--initial-words", "cat", "--resolution", "64", "--quiet"]
    assert main(["train", "a.png", "--model", "pipeline", *flags]) == 0


def test_sd3_without_t5_is_a_folder_too() -> None:
    build_pipeline("sd3", torch.float32, t5=False).save_pretrained("pipeline")
    assert list(load_model("pipeline").encoders) == ["clip_l", "clip_g"]


def test_one_encoder_of_two_is_trained(capsys: Output) -> None:
    build_pipeline("sdxl", torch.float32).save_pretrained("pipeline")
    word = load_model("pipeline").word_vectors("cat")
    flags = ["--model", "pipeline", "--steps", "2", "--batch-size", "2", "--resolution", "64", "--evaluate-every", "0"]
    flags += ["--num-vectors", "2", "--quiet", "--initial-words", "cat"]
    assert main(["train", "a.png", *flags, "--train-encoders", "clip_g"]) == 0
    learned = load_embedding("word.safetensors", WIDTHS["sdxl"]).vectors
    assert torch.equal(learned["clip_l"], word["clip_l"].expand(2, -1))
    assert not torch.equal(learned["clip_g"], word["clip_g"].expand(2, -1))
    capsys.readouterr()
    for more, sentence in (
        (["--train-encoders", "t5xxl"], "train_encoders names t5xxl; this model has clip_l, clip_g. Choose of these"),
        (["--train-encoders", "clip_g", "--initial-words", ""], "train_encoders needs initial_words"),
    ):
        assert main(["train", "a.png", *flags, *more, "--output", "none.safetensors"]) == 2
        assert sentence in capsys.readouterr().err
    more = ["--train-encoders", "clip_l", "--initial-words", "", "--init-from", "word.safetensors"]
    assert main(["train", "a.png", *flags, *more, "--output", "again.safetensors"]) == 0
    again = load_embedding("again.safetensors", WIDTHS["sdxl"]).vectors
    assert torch.equal(again["clip_g"], learned["clip_g"]) and not torch.equal(again["clip_l"], learned["clip_l"])


def test_networks_keep_the_precision_that_is_asked_for() -> None:
    build_pipeline("sdxl", torch.float32).save_pretrained("pipeline")
    backend = load_model("pipeline", dtype=torch.float16)
    assert backend.dtype == torch.float16
    assert backend._autoencoder.network.dtype == torch.float32  # SDXL's own overflows; its settings say force_upcast
    assert backend.loss_scale > 1


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        ({"_class_name": "StableDiffusionXLImg2ImgPipeline"}, "is a StableDiffusionXLImg2ImgPipeline; StableDiff"),
        ({"_class_name": "StableDiffusionInpaintPipeline"}, "is a StableDiffusionInpaintPipeline; StableDiff"),
        ({"_class_name": "FluxFillPipeline"}, "FluxPipeline and LDMTextToImagePipeline can be used here"),
        ({"_class_name": "MyPipeline"}, "is a MyPipeline; StableDiff"),
        ({"_class_name": ["pipeline", "StableDiffusionPipeline"]}, "can be used here"),
        ({}, "is a None; StableDiff"),
        ({"_class_name": "FluxPipeline", "transformer": ["my_code", "Mine"]}, "code of its own for transformer, which"),
        ({"_class_name": "StableDiffusionXLPipeline", "unet": ["stable_diffusion", "X"]}, "code of its own for unet"),
        ({"_class_name": "FluxPipeline"}, "pipeline has no transformer, vae, text_encoder"),
        ([], "is no diffusers pipeline"),
    ],
)
def test_folders_that_cannot_be_used(index: Any, sentence: str, capsys: Output) -> None:
    Path("pipeline").mkdir()
    Path("pipeline/model_index.json").write_text(json.dumps(index))
    Path("pipeline/my_code.py").write_text("raise SystemExit('foreign code ran')")
    assert main(["train", "a.png", "--model", "pipeline"]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda: shutil.rmtree("pipeline/tokenizer_2"), "has no tokenizer_2; give the whole folder of a StableDiff"),
        (lambda: [f.unlink() for f in Path("pipeline/tokenizer_2").iterdir()], "files of the tokenizer are missing"),
        (lambda: shutil.rmtree("pipeline/unet"), "has no unet; give the whole folder"),
        (lambda: Path("pipeline/unet/config.json").write_text("[]"), "unet/config.json holds no settings"),
        (lambda: set_none("addition_time_embed_dim"), "The settings of pipeline hold a value that cannot be used"),
        (lambda: Path("pipeline/model_index.json").write_text("[" * 100000), "no readable model_index.json"),
    ],
)
def test_folders_with_parts_missing(damage: Any, sentence: str, capsys: Output) -> None:
    """transformers makes a tokenizer without a word where its files are missing, and any text would do."""
    build_pipeline("sdxl", torch.float32).save_pretrained("pipeline")
    damage()
    capsys.readouterr()
    assert main(["train", "a.png", "--model", "pipeline"]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        *(
            ("sdxl", text, "scheduler/scheduler_config.json holds no settings")
            for text in ("", "[]", "null", '"x"', "3")
        ),
        ("sdxl", "[" * 100000, "holds no settings"),
        ("sdxl", None, "no file named scheduler_config.json"),
        ("sdxl", {"_class_name": 3}, "cannot be opened as a pipeline"),
        ("sdxl", {"prediction_type": "nonsense"}, "prediction type 'nonsense' is not known; it must be epsilon"),
        ("sdxl", {"prediction_type": ["epsilon"]}, "prediction type ['epsilon'] is not known"),
        ("sdxl", {"beta_schedule": "x"}, "cannot be opened as a pipeline: x is not implemented"),
        ("sdxl", {"beta_end": None}, "cannot be opened as a pipeline"),
        ("sdxl", {"beta_end": math.inf}, "no noise levels that rise from above 0"),
        ("sdxl", {"num_train_timesteps": 0}, "no noise levels that rise from above 0"),
        ("sdxl", {"steps_offset": "x", "timestep_spacing": "leading"}, "hold a value that cannot be used"),
        ("flux", {"shift": math.nan, "use_dynamic_shifting": False}, "no noise levels that rise from above 0"),
        ("flux", {"base_shift": "x"}, "hold a value that cannot be used"),
        ("flux", {"max_shift": 1e12}, "hold a value that cannot be used"),
        ("flux", {"invert_sigmas": True}, "no noise levels that rise from above 0"),
    ],
)
def test_schedulers_with_odd_settings(kind: str, settings: Any, sentence: str, capsys: Output) -> None:
    build_pipeline(kind, torch.float32).save_pretrained("pipeline")
    file = Path("pipeline/scheduler/scheduler_config.json")
    if isinstance(settings, dict):
        file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    elif settings is None:
        file.unlink()
    else:
        file.write_text(settings)
    capsys.readouterr()
    assert main(["train", "a.png", "--model", "pipeline", "--steps", "1", "--resolution", "64"]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["Nonsense", "AutoencoderKL", "VQDiffusionScheduler", "FlowMatchHeunDiscreteScheduler"]
)
def test_schedulers_of_another_class(name: str, capsys: Output) -> None:
    build_pipeline("sdxl", torch.float32).save_pretrained("pipeline")
    file = Path("pipeline/model_index.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "scheduler": ["diffusers", name]}))
    capsys.readouterr()
    assert main(["train", "a.png", "--model", "pipeline", "--steps", "1", "--resolution", "64"]) == 2
    error = capsys.readouterr().err
    assert "cannot be opened as a pipeline" in error or "has no noise levels by time step" in error
    assert len(error.strip().splitlines()) == 1


def set_none(name: str) -> None:
    """In the settings of the UNet."""
    file = Path("pipeline/unet/config.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), name: None}))


def checkpoint(name: str, **shapes: list[int]) -> Path:
    save_file({key.replace("__", "."): torch.zeros(shape) for key, shape in shapes.items()}, name)
    return Path(name)


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        (
            {"conditioner__embedders__0__model__transformer__resblocks__9__mlp__c_proj__bias": [1]},
            "the kind xl_refiner",
        ),
        ({"model__diffusion_model__input_blocks__0__0__weight": [4, 9, 3, 3]}, "the kind inpainting"),
        ({"model__diffusion_model__double_blocks__0__img_attn__norm__key_norm__scale": [1]}, "cannot be opened"),
        ({"nothing": [1]}, "cannot be opened"),
    ],
)
def test_checkpoints_that_cannot_be_used(shapes: dict[str, list[int]], sentence: str, capsys: Output) -> None:
    checkpoint("file.safetensors", **shapes)
    build_pipeline("flux", torch.float32).save_pretrained("flux")
    capsys.readouterr()  # what diffusers says about saving
    config = [] if "kind" in sentence else ["--config", "flux"]
    assert main(["train", "a.png", "--model", "file.safetensors", *config]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.strip().splitlines()) == 1


def test_the_first_model_is_opened_from_folders_only() -> None:
    build_pipeline("ldm", torch.float32).save_pretrained("ldm")
    checkpoint("file.safetensors", nothing=[1])
    with pytest.raises(ValueError, match="from folders only"):
        load_model("file.safetensors", "ldm")


def test_parts_that_do_not_belong_together_are_refused() -> None:
    inpainting = build_pipeline("sdxl", torch.float32)
    inpainting.unet.register_to_config(in_channels=9)
    with pytest.raises(ValueError, match="takes 9 channels and its pictures have 4"):
        DiffusersBackend(inpainting)
    fill = build_pipeline("flux", torch.float32)
    fill.transformer.register_to_config(in_channels=384)
    with pytest.raises(ValueError, match="takes 96 channels and its pictures have 16"):
        DiffusersBackend(fill)
    narrow = build_pipeline("ldm", torch.float32)
    narrow.unet = small_unet(16)
    with pytest.raises(ValueError, match="width 16, the text encoder gives 32"):
        DiffusersBackend(narrow)
    for kind, name in (("sdxl", "text_encoder_2"), ("sd3", "text_encoder"), ("flux", "text_encoder")):
        pooled = build_pipeline(kind, torch.float32)
        config = getattr(pooled, name).config
        setattr(config, "hidden_size" if kind == "flux" else "projection_dim", 7)
        with pytest.raises(ValueError, match="they do not belong together"):
            DiffusersBackend(pooled)
    plain = build_pipeline("sdxl", torch.float32)
    plain.unet = small_unet(40)
    with pytest.raises(ValueError, match="not of the family of its pipeline"):
        DiffusersBackend(plain)
    with pytest.raises(ValueError, match="no scheduler of a flow model"):
        DiffusersBackend(build_pipeline("sd3", scheduler=small_scheduler(diffusers.DDIMScheduler)))
    with pytest.raises(ValueError, match="no noise levels by time step"):
        DiffusersBackend(build_pipeline("sdxl", scheduler=flow_scheduler()))
    with pytest.raises(ValueError, match=r"Module cannot be used here; StableDiffusionPipeline, .* can\."):
        DiffusersBackend(nn.Module())
